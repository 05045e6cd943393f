"""What every trap file declares: one upper-case TRAP, plain data around a pure function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from g4diag.model import Violation


def nothing(view: Any) -> str:
    """Any view can be judged."""
    return ""


@dataclass(frozen=True)
class Trap:
    """One invariant. name: the claim as an identifier. claim: the same in one sentence.
    without_it: what breaks unseen. cost: what it costs where. runs: subset of {"eager", "captured", "offline"}.
    judges: the view class it looks at. judge: that view -> violations; pure, numpy only, never raises on a
    well-formed view. group: a short name that arms it together with others, "" for none. needs: what a view lacks
    for the claim to be judged in it, "" if nothing; a view that lacks something does not make the claim hold. counts:
    what a violation's count and checked count, "" for what the view says (CHECKED). remembers: names of what must be
    written down before such a view is made (the books of `stack/probes`): a stack on which that cannot be done refuses
    this trap and no other."""

    name: str
    claim: str
    without_it: str
    cost: str
    runs: tuple[str, ...]
    judges: type
    judge: Callable[[Any], Iterable[Violation]]
    group: str = ""
    needs: Callable[[Any], str] = nothing
    counts: str = ""
    remembers: tuple[str, ...] = ()
