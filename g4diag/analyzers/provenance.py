"""Who wrote the file, with what armed, and what the reader had to conclude."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g4diag.analyzers.contract import Analyzer
from g4diag.model import Finding, Grade, Incident


def analyze(incident: Incident) -> Iterator[Finding]:
    """The origin, a loud line for fault states that were armed, what else was, then the reader's notes."""
    held = f"reads {len(incident.reads)}, pool swaps {len(incident.swaps)}, allocations {len(incident.allocations)}"
    data: dict[str, Any] = {"origin": incident.origin, "versions": incident.versions, "context": incident.context}
    data |= {"counts": [len(incident.reads), len(incident.swaps), len(incident.allocations)]}
    yield Finding("provenance", f"{incident.origin}: {held}", Grade.MEASURED, False, data, "held")
    armed = {kind: names for kind, names in incident.manifest.items() if names}
    if faults := armed.pop("faults", None):
        text = f"FAULT STATE RE-INTRODUCED ON PURPOSE: {', '.join(faults)}"
        yield Finding("provenance", text, Grade.MEASURED, False, {"faults": faults})
    if armed:
        text = "; ".join(f"{kind} {', '.join(names)}" for kind, names in armed.items())
        yield Finding("provenance", f"armed: {text}", Grade.MEASURED, False, dict(armed))
    for grade, text in incident.notes:
        yield Finding("provenance", text, grade, False, {"note": True})


ANALYZER = Analyzer("provenance", "Where does this file come from, and what is not said in it?", analyze)
