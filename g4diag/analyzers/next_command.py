"""The next command to type for this very finding. SGLANG-ARGUMENTS stands for the server's own."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import judge, lead
from g4diag.analyzers.matching import matches
from g4diag.discover import contributions
from g4diag.model import Finding, Grade, Incident

_SERVE = "g4diag serve --traps {} -- SGLANG-ARGUMENTS"
_STRICT = "G4DIAG_LEVEL=strict "


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding whose text is the command; `why` says what it is for. None for a clean file."""
    if found := _next(incident):
        command, why = found
        yield Finding("next_command", command, Grade.DERIVED, False, {"command": command, "why": why})


def _next(incident: Incident) -> tuple[str, str] | None:
    """A known issue's own command, else a run that would see more."""
    for match in matches(incident)[:1]:
        if match.issue.next:
            return match.issue.next, f"shows {match.issue.id}, and its cure where there is one"
    judgement = judge(incident)
    first = lead(judgement.hits)
    if first is not None:
        group = _group(first.violation.trap)
        return _STRICT + _SERVE.format(group), f"stops the server at the first step where {group} traps fire"
    if not judgement.checked:
        return _STRICT + _SERVE.format("all"), "this file holds nothing to judge; a dump of an armed server does"
    return None


def _group(trap: str) -> str:
    """The group the trap is armed by, or its own name."""
    traps = [found.value for found in contributions("g4diag.traps", "TRAP") if found.error is None]
    return next((found.group or found.name for found in traps if found.name == trap), "all")


ANALYZER = Analyzer("next_command", "What to type next?", analyze)
