"""The error as a log tells it: the line it surfaced at and what was printed there, secrets masked by the reader."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.model import DEVICE_KINDS, Finding, Grade, Incident, surfaced_at

_KINDS = ("frame", "stack", "exception", *DEVICE_KINDS)
_SHOWN = 4


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most _SHOWN findings, in the log's order, from the line that surfaced on; else from the first error."""
    told = [event for event in incident.log if event.kind in _KINDS]
    surfaced = surfaced_at(incident.log)
    start = told.index(surfaced) if surfaced else 0
    for event in told[start : start + _SHOWN]:
        data = {"kind": event.kind, "source": event.source, "where": event.where}
        yield Finding("error_lines", f"{event.source}: {event.text}", Grade.MEASURED, False, data)


ANALYZER = Analyzer("error_lines", "What did the log print of the error?", analyze)
