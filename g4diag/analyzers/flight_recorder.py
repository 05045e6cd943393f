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
        last, text = steps[-1], _last(steps[-1])
        data = {"seq": last.seq, "kind": last.kind, "step": last.step, "mode": last.mode}
        data |= {"batch": last.batch, "waiting": last.waiting, "use": _uses(last)}
        yield Finding("flight_recorder", text, Grade.MEASURED, False, data, "last-step")
    for mark in [record for record in incident.ring if record.kind != "step"][-_MARKS:]:
        step = f" at step {mark.step}" if mark.step >= 0 else ""
        yield _finding(f"{mark.kind}{step}, {_ago(mark, end)}: {mark.text}", mark)


def _last(step: RingRecord) -> str:
    """Without what the record does not know: -1, or an empty mode."""
    mode = [step.mode] if step.mode else []
    counts = [f"{n} {what}" for n, what in ((step.batch, "requests"), (step.waiting, "waiting")) if n >= 0]
    pools = [f"{name} pool {use:.0%} used" for name, use in _uses(step).items()]
    return f"last step {step.step}: {', '.join([*mode, *counts, *pools]) or 'nothing is told of it'}"


def _uses(step: RingRecord) -> dict[str, float]:
    pools = (("full", step.full_size, step.full_free), ("SWA", step.swa_size, step.swa_free))
    return {name: 1.0 - free / size for name, size, free in pools if size > 0 and free >= 0}


def _ago(record: RingRecord, end: int) -> str:
    return f"{(end - record.time_ns) / 1e9:.3f} s before the last record"


def _finding(text: str, record: RingRecord) -> Finding:
    data = {"seq": record.seq, "kind": record.kind, "step": record.step, "mode": record.mode}
    return Finding("flight_recorder", text, Grade.MEASURED, False, data)


ANALYZER = Analyzer("flight_recorder", "What was the server doing last?", analyze)
