"""How the line that a log's crash surfaced at is to be read, by what `logs.story` makes of it.

An asynchronous error is reported by who waits for the device, one of a launch by that very launch, a leak by an audit
that comes later than it, and a Python exception where it happens.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.log_words import told
from g4diag.logs.kernels import short_name
from g4diag.logs.story import Crash
from g4diag.model import Finding, Grade, Incident

_SHOWN = 8


def blames(incident: Incident) -> Iterator[Finding]:
    """At most one finding a crash, of the first _SHOWN."""
    crashes = told(incident).crashes
    for number, crash in enumerate(crashes[:_SHOWN], start=1):
        head = f"crash {number} of {len(crashes)}: " if len(crashes) > 1 else ""
        if text := blamed(crash):
            culprit = crash.blame.kernel or None
            rest = f"; what faulted: {short_name(culprit)}" if culprit else ""
            data = {
                "surfaced": crash.surfaced.where if crash.surfaced else None,
                "culprit": culprit,
                "blame": crash.blame.how,
            }
            yield Finding("misattribution", f"{head}{text}{rest}", Grade.DERIVED, False, data)


def blamed(crash: Crash) -> str:
    """How the line that it surfaced at is to be read; "" where there is nothing to say."""
    at = crash.surfaced.where if crash.surfaced else "no Python line"
    device = crash.blame.device
    name = device.says if device else ""
    match crash.blame.how:
        case "waited":
            who = (
                "where the main thread was: it waited for the device"
                if crash.from_stack
                else "who waited for the device"
            )
            if crash.surfaced is None:
                return f"{name}: reported late, by whoever waits for the device; no Python line of it is told"
            return f"it surfaced at {at}: that is {who}, not what faulted; reported late: {name}"
        case "replay":
            return f"it surfaced at {at}: that is a graph's replay, one launch of all its kernels"
        case "launch":
            place = f" ({device.function or 'the launcher'} at {device.place})" if device and device.place else ""
            return f"it surfaced at {at}, and the launch itself failed there{place}"
        case "trap":
            return f"it surfaced at {at}: that is g4diag's own check, which only waited for the device"
        case "audit":
            when = (
                f"an {crash.audit} audit"
                if crash.audit == "idle"
                else f"a {crash.audit} audit"
                if crash.audit
                else "an audit"
            )
            return (
                f"{when} of the pools found it; the leak itself is earlier, and {at} only reports it"
                if crash.surfaced
                else f"{when} of the pools found it; the leak itself is earlier"
            )
        case "raised":
            return f"raised by Python at {at}: that is where it happened" if crash.surfaced else ""
        case "allocation":
            return f"memory ran out at {at}: who asked last, not who holds it"
    return ""
