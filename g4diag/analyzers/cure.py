"""Which patch or release cures it: that of the known issue it matches best."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.matching import matches
from g4diag.model import Finding, Incident


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most one finding, as sure as the match."""
    for match in matches(incident)[:1]:
        data = {"issue": match.issue.id, "references": list(match.issue.references)}
        yield Finding("cure", f"cure: {match.issue.cure}", match.grade, False, data)


ANALYZER = Analyzer("cure", "Which patch or release cures it?", analyze)
