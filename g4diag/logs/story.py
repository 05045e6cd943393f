"""The crashes that a log tells, each with its own story: what came first, in which rank, where it surfaced.

Events belong to one crash while little time lies between them and the server was not started anew. Where lines only
follow from a death, as the SIGQUIT of a parent, they are never what came first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from g4diag.logs.leaks import when_found
from g4diag.model.log import (
    AsyncAssert,
    Canary,
    Chosen,
    DeviceAsserts,
    DeviceError,
    DeviceSaid,
    Ended,
    Event,
    Frame,
    KernelSaid,
    OutOfMemory,
    PoolAudit,
    Raised,
    ServerArgs,
    Stack,
    TimedOut,
    TrapSaid,
    Xid,
)

_APART, _LINES = 300.0, 20_000
_LEAVING = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "BrokenPipeError")
_FOLLOWS = re.compile(r"EngineDead|WorkerFailed|engine core.{0,40}(?:died|failed)|Engine process failed", re.I)
_REPLAY = re.compile(r"torch/cuda/graphs\.py$")
_OURS = re.compile(r"/g4diag/(?:stack|plugin)\b")
_REQUEST = re.compile(
    r"(?:error|exception)\b.{0,40}\brequest|request.{0,40}\b(?:error|failed)|handling|ASGI application", re.I
)


@dataclass(frozen=True)
class Blame:
    """What the line that reported has to do with what failed. how: "waited", "replay" (a graph's, one launch of all its
    kernels), "launch" (that very launch failed), "trap" (one of ours waited), "raised" (Python itself), "audit" (a
    check found it, it is earlier), "allocation", "asserted", "told" (a tool names the kernel), "" (nothing is said)."""

    how: str
    device: DeviceError | None = None
    kernel: str = ""


@dataclass(frozen=True)
class Crash:
    """One crash. first: what came first of all that is told. events: all of it, in order. ranks: who tells of it, the
    first first. surfaced: the Python line, None if none is told. stack: it is where the main thread was, not a
    traceback. handled: one request failed and nothing says that a process ended. audit: when the leak was found."""

    first: Event
    events: tuple[Event, ...]
    ranks: tuple[str, ...] = ()
    surfaced: Frame | None = None
    from_stack: bool = False
    blame: Blame = Blame("")
    handled: bool = False
    audit: str = ""

    @property
    def raised(self) -> Raised | None:
        """The exception that tells of it first, of this first process where it has one."""
        return _raised(self.events, self.first)

    @property
    def hardware(self) -> bool:
        """A CUDA error of the hardware's, by its text."""
        return any(device.hardware for device in _devices(self.events))

    def of(self, kind: type[Event]) -> tuple[Event, ...]:
        """Its events of one type."""
        return tuple(event for event in self.events if isinstance(event, kind))


def of(events: Sequence[Event]) -> tuple[Crash, ...]:
    """Every crash, in order. Empty for a healthy log, whatever it retracts."""
    blocking = _blocking(events)
    return tuple(_crash(group, blocking) for group in _groups(events))


def _blocking(events: Iterable[Event]) -> bool:
    said = [event.value for event in events if isinstance(event, Chosen) and event.key == "launch_blocking"]
    return bool(said) and said[-1] == "1"


def _speaks(event: Event) -> bool:
    """Whether an event is part of a crash's story."""
    if isinstance(event, Ended):
        return not event.asked
    if isinstance(event, Raised):
        return event.killed.name not in _LEAVING
    kinds = (AsyncAssert, Canary, DeviceAsserts, DeviceSaid, KernelSaid, OutOfMemory, PoolAudit, Stack, TimedOut)
    return isinstance(event, (*kinds, TrapSaid, Xid))


def _groups(events: Sequence[Event]) -> list[list[Event]]:
    groups: list[list[Event]] = []
    began_anew = False
    for event in events:
        if isinstance(event, ServerArgs):
            began_anew = True
        if not _speaks(event):
            continue
        if groups and not began_anew and _belongs(groups[-1], event):
            groups[-1].append(event)
        else:
            groups.append([event])
        began_anew = False
    return groups


def _belongs(group: Sequence[Event], event: Event) -> bool:
    timed = [before for before in group if before.time is not None]
    if event.time is not None and timed and timed[-1].clock == event.clock:
        return abs(event.time - (timed[-1].time or 0)) <= _APART
    return event.line - group[-1].line <= _LINES


def _heads(event: Event) -> bool:
    """Whether it may be what came first: no line that only follows a death, no stack, no relayed error."""
    if isinstance(event, Ended):
        return not event.teardown
    if isinstance(event, Raised):
        return not (event.relayed or _FOLLOWS.search(f"{event.killed.kind} {event.killed.message}"))
    return not isinstance(event, Stack)


def _crash(group: Sequence[Event], blocking: bool) -> Crash:
    heads = [event for event in group if _heads(event)] or list(group)
    causes = [event for event in heads if not isinstance(event, Ended)] or heads
    first = _earliest(causes)
    raised, stack = _raised(group, first), _stack(group)
    surfaced = raised.surfaced if raised else None
    from_stack = surfaced is None and stack is not None
    if surfaced is None and stack is not None:
        surfaced = stack.surfaced
    order = [
        event
        for event in (first, *heads)
        if isinstance(event, Raised | DeviceSaid | DeviceAsserts | PoolAudit | OutOfMemory | Canary)
    ]
    ranks = tuple(dict.fromkeys(event.who for event in sorted(order, key=_when(order)) if event.who))
    return Crash(
        first=first,
        events=tuple(group),
        ranks=ranks,
        surfaced=surfaced,
        from_stack=from_stack,
        blame=_blame(group, raised, surfaced, blocking),
        handled=_is_handled(group, raised),
        audit=when_found(raised) if any(isinstance(event, PoolAudit) for event in group) else "",
    )


def _earliest(events: Sequence[Event]) -> Event:
    return min(events, key=_when(events))


def _when(events: Sequence[Event]) -> Callable[[Event], tuple[float, int]]:
    """To sort by: time where all tell one by the same clock, and the line."""
    clocks = {event.clock for event in events}
    comparable = all(event.time is not None for event in events) and (len(clocks) == 1 or clocks <= {"local", "zone"})
    return lambda event: (event.time or 0.0 if comparable else 0.0, event.line)


def _raised(events: Iterable[Event], first: Event) -> Raised | None:
    found = [event for event in events if isinstance(event, Raised) and _speaks(event)]
    found.sort(
        key=lambda event: (event.process != first.process, not _heads(event), event.surfaced is None, event.line)
    )
    return found[0] if found else None


def _stack(events: Iterable[Event]) -> Stack | None:
    """The main thread's before the one that aborted, before any other that has a Python line."""
    found = [event for event in events if isinstance(event, Stack) and event.surfaced]
    return min(found, key=lambda event: (not event.main, not event.current, event.line), default=None)


def _devices(events: Iterable[Event]) -> list[DeviceError]:
    return [event.device for event in events if isinstance(event, Raised | DeviceSaid) and event.device]


def _kernel(events: Iterable[Event]) -> str:
    return next((e.kernel for e in events if isinstance(e, KernelSaid | DeviceSaid) and e.kernel), "")


def _blame(events: Sequence[Event], raised: Raised | None, surfaced: Frame | None, blocking: bool) -> Blame:
    devices, kernel = _devices(events), _kernel(events)
    if any(isinstance(event, PoolAudit) for event in events) and not devices:
        return Blame("audit")
    if raised is not None and raised.device is None and not devices:
        if any(isinstance(event, OutOfMemory) and event.line == raised.line for event in events):
            return Blame("allocation")
        return Blame("raised")
    if not devices:
        if kernel:
            return Blame("told", None, kernel)
        return (
            Blame("asserted") if any(isinstance(event, DeviceAsserts | AsyncAssert) for event in events) else Blame("")
        )
    device = raised.device if raised is not None and raised.device is not None else devices[0]
    if device.blame == "launch" or (blocking and raised is not None):
        return Blame("launch", device, kernel or device.function)
    if surfaced is not None and _OURS.search(surfaced.path):
        return Blame("trap", device, kernel)
    if surfaced is not None and _REPLAY.search(surfaced.path) and surfaced.function == "replay":
        return Blame("replay", device, kernel)
    return Blame("waited", device, kernel)


def _is_handled(events: Sequence[Event], raised: Raised | None) -> bool:
    return raised is not None and len({type(event) for event in events}) == 1 and bool(_REQUEST.search(raised.lead))
