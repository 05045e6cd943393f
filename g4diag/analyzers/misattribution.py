"""Where the error surfaced is often not where it happened.

The device runs behind the host: an illegal access is reported at the first call that waits for it, so the Python line
of the traceback names whoever waited. A core dump names the kernel; a broken table names the layer and the step. A
Python exception such as an IndexError is raised where it happens, and is said to be. Three lines need a word of their
own: a launch, which is to blame only where launches wait; a graph's replay, which launches hundreds of kernels; and a
trap of ours, which waits for the device in front of each read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from g4diag.analyzers.causes import headline
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.log_blame import blames
from g4diag.analyzers.log_words import is_log
from g4diag.analyzers.recorded_violations import recorded
from g4diag.model import DEVICE_KINDS, Finding, Grade, Incident, Violation, surfaced_at

_DEVICE_TEXT = re.compile(r"illegal memory access|device-side assert|misaligned address|illegal instruction", re.I)
_PLACES = (
    # Not the folder that a checkout of ours, with a whole environment in it, may be called.
    (
        re.compile(r"/g4diag/(?:stack|plugin)\b"),
        "g4diag's own check, which only waited for the device",
    ),
    (re.compile(r"/torch/cuda/graphs\.py.{0,200} in replay"), "a graph's replay, one launch of all its kernels"),
    (re.compile(r"/flashinfer/xqa\.py"), "a launch of XQA, to blame for itself only under CUDA_LAUNCH_BLOCKING=1"),
)
_WHERE = re.compile(r"(?<![\w./-])([\w./-]{1,300}\.py)\S{0,80}?(?:\", line |:)(\d{1,9})")


def analyze(incident: Incident) -> Iterator[Finding]:
    """At most two findings: where it surfaced against what faulted, and where a Python error was raised. Of a log, one
    for each crash that it tells."""
    if is_log(incident):
        yield from blames(incident)
        return
    surfaced, line = _surfaced(incident)
    if _is_of_the_device(incident):
        who = next((said for sign, said in _PLACES if sign.search(line)), "who waited for the device, not what faulted")
        if culprit := _culprit(incident):
            grade, what = culprit
            text = f"it surfaced at {surfaced}: that is {who}; what faulted: {what}"
            text = text if surfaced else f"what faulted: {what}; the line that it surfaced at is not in this file"
            yield Finding("misattribution", text, grade, False, {"surfaced": surfaced, "culprit": what})
        elif surfaced:
            text = f"it surfaced at {surfaced}: that is {who}; the kernel that faulted may be any that ran before"
            yield Finding("misattribution", text, Grade.DERIVED, False, {"surfaced": surfaced, "culprit": None})
    elif surfaced and (raised := _raised(incident)):
        text = f"raised by Python itself at {surfaced}, so that is where it happened: {raised}"
        yield Finding("misattribution", text, Grade.DERIVED, False, {"surfaced": surfaced, "culprit": surfaced})


def _is_of_the_device(incident: Incident) -> bool:
    if incident.faults or any(event.kind in DEVICE_KINDS for event in incident.log):
        return True
    return any(_DEVICE_TEXT.search(text) for text in _texts(incident))


def _texts(incident: Incident) -> Iterator[str]:
    yield from (event.text for event in incident.log if event.kind in ("exception", "exit"))
    yield from (record.text for record in incident.ring if record.kind == "exception")
    yield from (text for _, text in incident.notes)


def _surfaced(incident: Incident) -> tuple[str | None, str]:
    """(file and line, the whole line), by the log, else by the recorder's mark of an exception."""
    if event := surfaced_at(incident.log):
        return event.where or event.text, event.text
    marks = [record.text for record in incident.ring if record.kind == "exception"]
    found = [match for text in marks if (match := _WHERE.search(text))]
    return (f"{found[-1][1]}:{found[-1][2]}", marks[-1]) if found else (None, "")


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
    first = headline(incident)
    violation = first.violation if first else next(iter(recorded(incident)), None)
    return (Grade.DERIVED, _broken(violation)) if violation else None


def _broken(violation: Violation) -> str:
    layer = f"the attention of layer {violation.layer_id}" if violation.layer_id is not None else violation.trap
    step = f" at step {violation.step}" if violation.step is not None and violation.step >= 0 else ""
    return f"{layer}{step}, where {violation.trap} is broken" if violation.layer_id is not None else f"{layer}{step}"


ANALYZER = Analyzer("misattribution", "Is the line that surfaced the one that faulted?", analyze)
