"""Where the error surfaced is often not where it happened.

The device runs behind the host: an illegal access is reported at the first call that waits for it, so the Python line
of the traceback names whoever waited. A core dump names the kernel; a broken table names the layer and the step. A
Python exception such as an IndexError is raised where it happens, and is said to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import judge, lead
from g4diag.model import Finding, Grade, Incident, LogEvent, Violation

_DEVICE_KINDS = ("illegal-access", "xid", "device-assert", "async-assert")
_DEVICE_TEXT = re.compile(r"illegal memory access|device-side assert|misaligned address|illegal instruction", re.I)
_WHERE = re.compile(r"([\w./-]+\.py)\S*?(?:\", line |:)(\d+)")


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most two findings: where it surfaced against what faulted, and where a Python error was raised."""
    surfaced = _surfaced(incident)
    if _is_of_the_device(incident):
        if culprit := _culprit(incident):
            grade, what = culprit
            waited = f"it surfaced at {surfaced}: that is who waited for the device, not what faulted: {what}"
            text = waited if surfaced else f"what faulted: {what}; the line that it surfaced at is not in this file"
            yield Finding("misattribution", text, grade, False, {"surfaced": surfaced, "culprit": what})
        elif surfaced:
            text = f"it surfaced at {surfaced}, where the host waited: the kernel that faulted ran earlier"
            yield Finding("misattribution", text, Grade.DERIVED, False, {"surfaced": surfaced, "culprit": None})
    elif surfaced and (raised := _raised(incident)):
        text = f"raised by Python itself at {surfaced}, so that is where it happened: {raised}"
        yield Finding("misattribution", text, Grade.DERIVED, False, {"surfaced": surfaced, "culprit": surfaced})


def _is_of_the_device(incident: Incident) -> bool:
    if incident.faults or any(event.kind in _DEVICE_KINDS for event in incident.log):
        return True
    return any(_DEVICE_TEXT.search(text) for text in _texts(incident))


def _texts(incident: Incident) -> Iterator[str]:
    yield from (event.text for event in incident.log if event.kind in ("exception", "exit"))
    yield from (record.text for record in incident.ring if record.kind == "exception")
    yield from (text for _, text in incident.notes)


def _surfaced(incident: Incident) -> str | None:
    """The innermost Python line before the error: the last frame ahead of the first device event, or the last."""
    frames: list[LogEvent] = []
    for event in incident.log:
        if event.kind == "frame":
            frames.append(event)
        elif event.kind in (*_DEVICE_KINDS, "exception") and frames:
            break
    if frames:
        return frames[-1].where or frames[-1].text
    marks = [record.text for record in incident.ring if record.kind == "exception"]
    found = [match for text in marks if (match := _WHERE.search(text))]
    return f"{found[-1][1]}:{found[-1][2]}" if found else None


def _raised(incident: Incident) -> str | None:
    return next((event.text for event in incident.log if event.kind == "exception"), None)


def _culprit(incident: Incident) -> tuple[Grade, str] | None:
    """A core dump measures the kernel; a broken table, judged again or on record, lets it be derived."""
    if incident.faults:
        fault = incident.faults[0]
        meaning = f", {fault.meaning}" if fault.meaning else ""
        # Without the types of its arguments.
        kernel = fault.kernel.partition("(")[0] or fault.kernel
        return Grade.MEASURED, f"{kernel} ({fault.exception}{meaning}; {fault.source})"
    first = lead(judge(incident).hits)
    violation = first.violation if first else next(iter(incident.violations), None)
    return (Grade.DERIVED, _broken(violation)) if violation else None


def _broken(violation: Violation) -> str:
    layer = f"the attention of layer {violation.layer_id}" if violation.layer_id is not None else violation.trap
    step = f" at step {violation.step}" if violation.step is not None and violation.step >= 0 else ""
    return f"{layer}{step}, where {violation.trap} is broken" if violation.layer_id is not None else f"{layer}{step}"


ANALYZER = Analyzer("misattribution", "Is the line that surfaced the one that faulted?", analyze)
