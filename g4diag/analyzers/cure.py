"""Which patch or release cures it: that of the known issue it matches best. A fault put back on purpose is cured by
leaving it out, whatever the version, so that is said too."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.matching import matches
from g4diag.model import Finding, Incident


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most one finding, as sure as the match."""
    for match in matches(incident)[:1]:
        data = {"issue": match.issue.id, "references": list(match.issue.references)}
        put_back = "; here the fault was put back on purpose" if incident.manifest.get("faults") else ""
        yield Finding("cure", f"cure: {match.issue.cure}{put_back}", match.grade, False, data)


ANALYZER = Analyzer("cure", "Which patch or release cures it?", analyze)
