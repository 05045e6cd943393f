"""Which patch or release cures it: that of the known issue it matches best. A fault put back on purpose is cured by
leaving it out, whatever the version, so that is said too."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.matching import matches
from g4diag.model import Finding, Incident


def put_back(faults: Collection[str]) -> str:
    """What to say behind a cure where these faults were put back on purpose."""
    return "; here the fault was put back on purpose" if faults else ""


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most one finding, as sure as the match."""
    for match in matches(incident)[:1]:
        data = {"issue": match.issue.id, "references": list(match.issue.references)}
        cure = match.issue.cure_for(incident.versions.get("sglang", ""))
        text = f"cure: {cure}{put_back(incident.manifest.get('faults', ()))}"
        yield Finding("cure", text, match.grade, False, data)


ANALYZER = Analyzer("cure", "Which patch or release cures it?", analyze)
