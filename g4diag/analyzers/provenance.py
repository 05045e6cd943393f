"""Who wrote the file, with what armed, and what the reader had to conclude."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.model import Finding, Grade, Incident


def analyze(incident: Incident) -> Iterator[Finding]:
    """The origin, a loud line for fault states that were armed, then the reader's notes."""
    held = f"{len(incident.reads)} reads, {len(incident.swaps)} pool swaps, {len(incident.allocations)} allocations"
    data = {"origin": incident.origin, "versions": incident.versions, "context": incident.context}
    yield Finding("provenance", f"{incident.origin}: {held}", Grade.MEASURED, False, data)
    for kind, names in incident.manifest.items():
        if names:
            shout = "FAULT STATE RE-INTRODUCED ON PURPOSE" if kind == "faults" else f"armed {kind}"
            yield Finding("provenance", f"{shout}: {', '.join(names)}", Grade.MEASURED, False, {kind: names})
    for grade, text in incident.notes:
        yield Finding("provenance", text, grade, False, {"note": True})


ANALYZER = Analyzer("provenance", "Where does this file come from, and what is not said in it?", analyze)
