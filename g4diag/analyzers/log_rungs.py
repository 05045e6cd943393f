"""The rungs of the first line that a log reaches: a canary's record, a leak, hardware, a crash, healthy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from g4diag.analyzers.log_words import Told, canaries, told
from g4diag.logs.kernels import short_name
from g4diag.logs.story import Crash
from g4diag.logs.xid import hardware
from g4diag.model import Incident
from g4diag.model.log import Canary, DeviceAsserts, DeviceSaid, Event, KernelSaid, Raised, Retractions, Xid

_RANKS, _POOLS = 6, 4


def leak(incident: Incident) -> str | None:
    """The pool that does not balance, of the first audit that names one."""
    said = told(incident)
    found = [(audit, rows) for audit, rows in said.leaks if any(row.over for row in rows)]
    if not found:
        return None
    first = found[0][0]
    off = dict.fromkeys(row.sentence() for _, rows in found for row in rows if row.over)
    held = dict.fromkeys(row.sum.pool for _, rows in found for row in rows if not row.over)
    rest = f"; {' and '.join(held)} balanced" if held else ""
    when = f", {moment(first)}" if first.time is not None else ""
    return f"{'; '.join(list(off)[:_POOLS])}{rest}{_ranks([audit.who for audit, _ in found])}{when}{_others(said)}"


def fault_of_hardware(incident: Incident) -> str | None:
    """An Xid or a CUDA error of the hardware's."""
    said = told(incident)
    for row in hardware(said.xids):
        return f"{row.sentence()}; {row.meaning.do}"
    for crash in said.crashes:
        if crash.hardware and crash.blame.device is not None:
            who = _ranks(crash.ranks)
            return (
                f"{crash.blame.device.says}{who}: the GPU or its links, not the program; take the GPU out and test it"
            )
    return None


def recorded(incident: Incident) -> str | None:
    """What sglang's own KV canary recorded. Where that is of Gemma's own addition a crash says more."""
    first = next(iter(canaries(incident)), None)
    return (
        None if first is None or told(incident).is_noise else f"{canary(first)}; by sglang's KV canary, {first.source}"
    )


def canary(event: Canary) -> str:
    """One violation decoded."""
    pool = f"{event.pool} pool, {event.part.upper()}" if event.pool else event.tag
    # Which tokens is the prompt's business.
    known = event.stored is not None and event.expected is not None and event.expected >= 0  # -1: none was told
    other = known and event.stored != event.expected
    token = ", another token than the one that belongs there" if other else ""
    count = f"; {event.count} violations of it" if event.count > 1 else ""
    who = f" on {event.who}" if event.who else ""
    place = f"slot {event.slot}, position {event.position}"
    return f"KV canary: {event.reason} wrong in the {pool} ({event.tag}) at {place}{token}{who}{count}"


def crash(incident: Incident) -> str | None:
    """The first crash, and how many more."""
    said = told(incident)
    if not said.crashes:
        return None
    return f"{headline(said.crashes[0])}{_others(said)}"


def names_its_line(incident: Incident) -> bool:
    """Whether the first crash is an exception of Python's, which its traceback shows where it happened."""
    said = told(incident)
    return bool(said.crashes) and said.crashes[0].blame.how == "raised" and said.crashes[0].surfaced is not None


def collapse(incident: Incident) -> str | None:
    """Accept length that fell, or never rose."""
    for course in told(incident).courses:
        who = f" on {course.rank}" if course.rank else ""
        if course.kind == "collapse":
            return (
                f"accept length fell from {course.samples[0].accept:.2f} to {course.last.accept:.2f}{who}"
                f"{_with(course.load, course.swa)}; outputs stay right, as every token is verified"
            )
        if course.kind == "flat":
            return f"accept length never rose above {course.highest:.2f}{who}: drafts are hardly ever accepted"
    return None


def healthy(incident: Incident) -> str | None:
    """A log that was read whole and tells no crash."""
    if incident.origin != "server-log" or told(incident).crashes or incident.unread:
        return None
    retracted = sum(event.count for event in incident.events if isinstance(event, Retractions))
    rest = f"; requests were retracted {retracted} times" if retracted else ""
    lines, passed = incident.context.get("lines", 0), incident.context.get("passed", 0)
    read = f"{passed} of them repeats or decode lines that were counted only" if passed else "all read"
    return f"{lines} lines, {read}: no crash, no error of a device, no leak{rest}"


def headline(found: Crash) -> str:
    """One crash in one line: what, where it surfaced, in which ranks, when."""
    first = found.first
    where = ""
    if found.surfaced is not None and not isinstance(first, KernelSaid | Xid | Canary):
        how = "its main thread was at" if found.from_stack else "surfaced at"
        where = f", {how} {found.surfaced.where}"
    when = f", {moment(first)}" if first.time is not None else ""
    return f"{what(first)}{where}{_ranks(found.ranks)}{when}"


def what(event: Event) -> str:
    """The event itself."""
    if isinstance(event, Raised):
        killed = event.killed
        return f"{killed.name}: {killed.message}" if killed.message else killed.name
    if isinstance(event, KernelSaid):
        return f"{event.exception} in {short_name(event.kernel) or 'a kernel that is not named'}"
    if isinstance(event, DeviceSaid):
        return f"CUDA error: {event.device.says}"
    if isinstance(event, DeviceAsserts):
        plural = "s" if event.count > 1 else ""
        return f"device-side assertion at {event.place}, in {event.count} thread{plural}: {event.claim}"
    return canary(event) if isinstance(event, Canary) else event.text


def moment(event: Event) -> str:
    """Its time as text; which clock, where it is not the wall's."""
    if event.time is None:
        return "no time"
    if event.clock == "boot":
        return f"{event.time:.3f} s after boot"
    said = datetime.fromtimestamp(event.time, UTC)
    if event.clock == "day":
        return f"{said:%H:%M:%S}"
    return (
        f"{said:%m-%d %H:%M:%S}"
        if event.clock == "yearless"
        else f"{said:%Y-%m-%d %H:%M:%S}" + (" UTC" if event.clock == "zone" else "")
    )


def _ranks(ranks: object) -> str:
    names = [name for name in dict.fromkeys(ranks) if name] if isinstance(ranks, list | tuple) else []
    if not names:
        return ""
    more = f" and {len(names) - _RANKS} more" if len(names) > _RANKS else ""
    first = f", {names[0]} first" if len(names) > 1 else ""
    return f" (on {', '.join(names[:_RANKS])}{more}{first})"


def _others(said: Told) -> str:
    count = len(said.crashes) - 1
    return f"; {count} more crash{'es' if count > 1 else ''} in this log" if count > 0 else ""


def _with(load: float | None, swa: float | None) -> str:
    return " and ".join(_pairs(load, swa))


def _pairs(load: float | None, swa: float | None) -> Iterator[str]:
    if load is not None and load <= -0.5:
        yield " as the load grew"
    if swa is not None and swa <= -0.5:
        yield " as the SWA pool filled" if load is None or load > -0.5 else "the SWA pool filled"
