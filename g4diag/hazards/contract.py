"""What every hazard file declares: one upper-case HAZARD, plain data around a pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from g4diag.hazards.deployment import Deployment

Severity = Literal["fatal", "harmful"]


@dataclass(frozen=True)
class Hazard:
    """One known-bad combination of releases and flags.

    name: what `serve --despite` takes. severity: `fatal` if the server dies of it, which `serve` refuses; `harmful`
    if it only suffers, which is said. why: symptom and cause. reference: upstream thread, or where it was seen.
    releases: PEP 440 range of the sglang releases that have it. found: what in a deployment makes it one, a phrase
    in the deployment's own words, or None; it answers None where the deployment does not tell. cures: patches that
    cure it, in the releases of `cured_in`, "" for all of them. instead: what to give sglang in place of it. behind:
    hazards that a way out of this one may lead to; the
    cure of one that it does lead to is told with it.
    """

    name: str
    severity: Severity
    why: str
    reference: str
    releases: str
    found: Callable[[Deployment], str | None]
    cures: tuple[str, ...] = ()
    cured_in: str = ""
    instead: str = ""
    behind: tuple[str, ...] = ()
