"""What the flight recorder's last records tell: they judge nothing, but say what the server did before the end.

Every line is as the host saw it; the device may have been one step behind.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.model import Finding, Grade, Incident, RingRecord

_MARKS = 8


def analyze(incident: Incident) -> Iterator[Finding]:
    """The last step, then the last marks; how full the pools were is `occupancy`'s. Nothing without a recorder."""
    if not incident.ring:
        return
    steps = [record for record in incident.ring if record.kind == "step"]
    end = incident.ring[-1].time_ns
    if steps:
        yield _finding(_last(steps[-1]), steps[-1])
    for mark in [record for record in incident.ring if record.kind != "step"][-_MARKS:]:
        step = f" at step {mark.step}" if mark.step >= 0 else ""
        yield _finding(f"{mark.kind}{step}, {_ago(mark, end)}: {mark.text}", mark)


def _last(step: RingRecord) -> str:
    pools = ""
    if step.full_size > 0:
        pools = f", full pool {_use(step.full_size, step.full_free):.0%}"
    if step.swa_size > 0:
        pools += f", SWA pool {_use(step.swa_size, step.swa_free):.0%} used"
    return f"last step {step.step}: {step.mode}, {step.batch} requests, {step.waiting} waiting{pools}"


def _use(size: int, free: int) -> float:
    return 1.0 - free / size if size > 0 else -1.0


def _ago(record: RingRecord, end: int) -> str:
    return f"{(end - record.time_ns) / 1e9:.3f} s before the last record"


def _finding(text: str, record: RingRecord) -> Finding:
    data = {"seq": record.seq, "kind": record.kind, "step": record.step, "mode": record.mode}
    return Finding("flight_recorder", text, Grade.MEASURED, False, data)


ANALYZER = Analyzer("flight_recorder", "What was the server doing last?", analyze)
