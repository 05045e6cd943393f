"""A server's log, or the kernel's, as something to inspect: `logs` reads it whole, here it becomes an incident.

No line is kept but those that tell something: a log may hold prompts. Secrets are masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from g4diag.dump.secrets import masked
from g4diag.logs import facts, reading
from g4diag.logs.opening import looks_like_text
from g4diag.logs.reading import Log
from g4diag.model import Grade, Incident, KernelFault, LogEvent
from g4diag.model.log import (
    Armed,
    AsyncAssert,
    Batches,
    Chosen,
    DeviceAsserts,
    DeviceSaid,
    Ended,
    Event,
    Frame,
    KernelCall,
    KernelSaid,
    OutOfMemory,
    PoolAudit,
    Raised,
    ServerArgs,
    Stack,
    TimedOut,
)

__all__ = [
    "ARMED",
    "EXCEPTION",
    "ILLEGAL_ACCESS",
    "NOT_ARMED",
    "events_of",
    "lines_of",
    "looks_like_text",
    "read_lines",
    "read_log",
]

LAST_CALLS = 8
ILLEGAL_ACCESS = re.compile(
    r"illegal memory access|Warp Illegal Address|WARP_ILLEGAL_ADDRESS|CUDA_ERROR_ILLEGAL_ADDRESS|CUDA_EXCEPTION_14\b"
    r"|cudaErrorIllegalAddress\b"
)
ARMED = re.compile(r"g4diag armed: (\{[^\n]{0,3000}?\}) pid=(\d{1,9})")
NOT_ARMED = re.compile(r"g4diag NOT ARMED.*")
EXCEPTION = re.compile(r"^[ \t]{0,200}(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt)\b.*", re.MULTILINE)

# Kept, but no word of a crash by themselves.
_NO_CRASH = ("frame", "armed")
_KIND_OF_CODE = {"cudaErrorIllegalAddress": "illegal-access", "cudaErrorAssert": "device-assert"}
# What tells of the server and not of a crash, and what another line tells as well.
_NO_LINE = (Batches, Chosen, ServerArgs)


def read_log(file: BinaryIO, size: int, name: str) -> Incident | None:
    """The log as something to inspect; None if none of its lines has a time and none tells more than a word about a
    server, as prose does that names a release. size: bytes on disk."""
    log = reading.read_log(file, name, masked)
    tells = any(not isinstance(event, Chosen) or event.key == "engine" for event in log.events)
    return incident_of(log, size, name) if tells or log.stamped else None


def incident_of(log: Log, size: int, name: str) -> Incident:
    """What `logs` read, with its typed events, and the same as lines."""
    lines, server = tuple(_lines(log.events)), facts.of(log.events)
    return Incident(
        origin="server-log",
        manifest=_manifest(log.events),
        versions={server.engine: server.release} if server.engine and server.release else {},
        context={"bytes": size, "lines": log.lines, "passed": log.passed, "events": sum(log.counts.values())},
        notes=tuple(_notes(log, lines)),
        log=lines,
        faults=tuple(_faults(log.events)),
        unread=(f"{name}: {log.unread}",) if log.unread else (),
        events=log.events,
    )


def read_lines(lines: Iterable[str], name: str) -> Log:
    """Of lines that were kept elsewhere, as in a post-mortem."""
    return reading.read_lines(lines, name, masked)


def events_of(lines: Iterable[str], name: str) -> tuple[LogEvent, ...]:
    """The lines that say something of a crash, of lines that were kept elsewhere."""
    return lines_of(read_lines(lines, name).events)


def lines_of(events: Iterable[Event]) -> tuple[LogEvent, ...]:
    """Typed events as lines: of an exception its innermost Python line, then the exception."""
    return tuple(_lines(tuple(events)))


def _lines(events: tuple[Event, ...]) -> Iterator[LogEvent]:
    calls = [event for event in events if isinstance(event, KernelCall)][-LAST_CALLS:]
    asserted = {event.line for event in events if isinstance(event, AsyncAssert)}
    for event in events:
        if isinstance(event, _NO_LINE) or (isinstance(event, KernelCall) and event not in calls):
            continue
        if isinstance(event, Ended) and event.asked:
            continue
        if isinstance(event, Stack):
            if event.main and event.surfaced:
                yield _frame("stack", event, event.surfaced)
            continue
        if isinstance(event, PoolAudit) and event.raised:
            continue
        if isinstance(event, OutOfMemory) and event.of == "device":
            continue
        if isinstance(event, Raised) and event.surfaced:
            yield _frame("frame", event, event.surfaced)
        if isinstance(event, Raised) and event.line in asserted:
            continue  # the check that it raised for is told by itself
        yield LogEvent(_kind(event), event.text, event.source, _time(event), "", event.tp)


def _kind(event: Event) -> str:
    if isinstance(event, Raised | DeviceSaid):
        return _KIND_OF_CODE.get(event.device.code if event.device else "", "exception")
    if isinstance(event, DeviceAsserts):
        return "async-assert" if "_assert_async" in event.function else "device-assert"
    if isinstance(event, KernelSaid):
        return "illegal-access" if _is_access(event) else "exception"
    return "exit" if isinstance(event, OutOfMemory | TimedOut) else event.KIND


def _is_access(event: KernelSaid) -> bool:
    return re.search(r"illegal address|invalid __|out.of.range", event.exception, re.I) is not None


def _frame(kind: str, event: Event, frame: Frame) -> LogEvent:
    text = f'File "{frame.path}", line {frame.line}, in {frame.function}'
    return LogEvent(kind, text, f"{event.file}:{frame.at or event.line}", _time(event), frame.where, event.tp)


def _time(event: Event) -> float | None:
    """Only one that can be laid beside another file's."""
    return event.time if event.clock in ("zone", "local") else None


def _faults(events: Iterable[Event]) -> Iterator[KernelFault]:
    for event in events:
        if isinstance(event, KernelSaid) and event.kernel:
            yield KernelFault(event.kernel[:200], event.exception, event.source, event.block, event.thread)


def _manifest(events: Iterable[Event]) -> dict[str, list[str]]:
    """What was armed in any process."""
    found: dict[str, list[str]] = {}
    for event in events:
        for kind, names in event.manifest.items() if isinstance(event, Armed) else ():
            found[kind] = sorted({*found.get(kind, []), *names})
    return found


def _notes(log: Log, lines: tuple[LogEvent, ...]) -> Iterator[tuple[Grade, str]]:
    counts: dict[str, int] = {}
    for event in lines:
        counts[event.kind] = counts.get(event.kind, 0) + 1
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind not in _NO_CRASH)
    yield Grade.MEASURED, f"lines that speak of a crash: {said or 'none'}"
    if log.left_out > 0:
        yield Grade.MEASURED, f"{log.left_out} such lines between the first and the last of their kind were left out"
    for note in log.notes:
        yield Grade.MEASURED, note
    if "local" in log.clocks and "zone" not in log.clocks:
        yield Grade.GUESS, "its times name no zone: taken as UTC"
