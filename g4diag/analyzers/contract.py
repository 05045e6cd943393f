"""What every analyzer file declares: one upper-case ANALYZER, one question about an incident."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from g4diag.model import Finding, Incident


@dataclass(frozen=True)
class Analyzer:
    """name: short key, also the subject of its findings. question: what a person would ask.
    analyze: incident -> findings; pure, numpy only; may yield none."""

    name: str
    question: str
    analyze: Callable[[Incident], Iterable[Finding]]
