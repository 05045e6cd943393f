"""What each Xid in the log means, whose fault it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.log_words import told
from g4diag.model import Finding, Grade, Incident

_SHOWN = 8
_WHOSE = {
    "program": "most often a fault of the program, rarely of the GPU",
    "hardware": "most often a fault of the hardware",
    "either": "of the program, the driver or the hardware",
    "": "",
}


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a fault; one that repeats an earlier one's address at another time is its own."""
    for row in told(incident).xids[:_SHOWN] if incident.events else ():
        whose = _WHOSE[row.meaning.whose]
        parts = [row.sentence(), *([whose] if whose else []), *([row.meaning.do] if not row.only_follows else [])]
        data = {
            "number": row.event.number,
            "pci": row.event.pci,
            "pid": row.event.pid,
            "access": row.event.access,
            "address": row.event.address,
            "repeated": row.repeated,
            "whose": row.meaning.whose,
            "order": row.order,
            "follows": row.only_follows,
            "source": row.event.source,
        }
        is_defect = row.meaning.is_of_hardware
        yield Finding("xid_triage", "; ".join(filter(None, parts)), Grade.MEASURED, is_defect, data, "xid")


ANALYZER = Analyzer("xid_triage", "What does the driver say, and whose fault is it?", analyze)
