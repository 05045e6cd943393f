"""Traps armed in a running server: one log line and one dump at the first violation of each claim, then a line at a
growing interval. With no trap it adds no hook.

Page tables are checked on the device where there is one (`device_check`), CUDA graphs included; every other view is
judged on the host, where taking it may synchronise, so nothing is taken while a graph is captured, and Python does
not run at all when one is replayed. Levels: `warn` goes on; `strict` raises TrapTripped at the end of the step; with
`contain` layers get a sanitised table, a bad read of the draft is only logged, since target verify protects the output,
and one of the target raises. Nothing else of ours is raised into the server.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from g4diag.atomic_write import atomic_write, token
from g4diag.dump.writer import write_dump
from g4diag.errors import PatchRefused, TrapTripped
from g4diag.guard import guard
from g4diag.hooks.compose import Hook
from g4diag.hooks.manifest import armed_manifest
from g4diag.hooks.versions import installed
from g4diag.model import (
    Allocation,
    AttentionRead,
    FreeList,
    Incident,
    MappingUpdate,
    PoolSwap,
    Release,
    Severity,
    View,
    Violation,
    by_field,
)
from g4diag.settings import DEFAULT_DUMP_DIR, run_dir
from g4diag.stack.live import recorder
from g4diag.stack.live.by_view import ByView
from g4diag.stack.live.device_check import IN_GRAPHS, ON_DEVICE, DeviceCheck
from g4diag.stack.live.log_line import LINES, short
from g4diag.stack.live.parts import Part, of_book
from g4diag.stack.live.scheduler_hooks import IdleWork, Steps
from g4diag.stack.live.strikes import Strikes
from g4diag.stack.live.tally import Tally
from g4diag.stack.probes.allocation import VIEWS
from g4diag.stack.probes.contract import Context, Probe, probes
from g4diag.stack.probes.page_table import is_capturing
from g4diag.stack.probes.workers import Backends
from g4diag.traps.contract import Trap
from g4diag.verdict import verdict_line

logger = logging.getLogger("g4diag")

REACH = "traps run on the host: not while a CUDA graph is captured, nor when one is replayed"
DEVICE_REACH = (
    "page tables and slots of K/V writes are checked on the device in CUDA graphs too; other traps run on the host, "
    "outside graphs"
)
_DEVICE, TOLD = "the device check", "batches told to the device"
_GROWTH, _KEPT_SWAPS = 10, 8
_SETTLED_EVERY = 5.0  # seconds between two looks at whole free lists while a server idles
# Calls on an allocator before a violation, each of at most so many slots: a dump is to hold its read as well.
_KEPT_CALLS, _KEPT_SLOTS = 12, 1 << 14
_CALLS = (Allocation, Release, MappingUpdate)


class Live:
    """The sink of every probe. Says and keeps what the armed traps find."""

    KEEPS = False  # as `Context.keeps`

    def __init__(
        self,
        armed: Sequence[Trap],
        dump_dir: Path | None,
        *,
        level: str = "warn",
        every: int = 1,
        on_device: bool = False,
        log: str = "text",
    ) -> None:
        self._line = LINES[log]
        self._traps, self._dump_dir, self._level = tuple(armed), dump_dir or DEFAULT_DUMP_DIR, level
        self.step = 0
        self._strikes, self.tally = Strikes(), Tally()
        self._pending: TrapTripped | None = None
        self._alive = True
        self.seen: Counter[tuple[str, str]] = Counter()
        self._next: dict[tuple[str, str], int] = {}
        # The cause comes before its effects: kept, so that a dump of a bad read can name it.
        self._bad_swaps: deque[PoolSwap] = deque(maxlen=_KEPT_SWAPS)
        self._calls: deque[Allocation | Release | MappingUpdate] = deque(maxlen=_KEPT_CALLS)
        self._backends = Backends(self.sink)
        self._settle: list[Callable[[], None]] = []
        self._settled = time.monotonic()
        self.device: DeviceCheck | None = None
        self.on_device: tuple[str, ...] = ()
        names = {trap.name for trap in self._traps}
        if on_device and names & (ON_DEVICE | IN_GRAPHS):
            contain = level == "contain"
            self.device = DeviceCheck(self._backends, armed=frozenset(names), contain=contain, every=every)
            self.on_device = tuple(trap.name for trap in self._traps if trap.name in ON_DEVICE)
            self._traps = tuple(trap for trap in self._traps if trap.name not in ON_DEVICE)
        self._by_view = ByView(self._traps)

    @property
    def unwatched(self) -> Mapping[str, PatchRefused]:
        """Attention backends of a form that we do not know, and what was wanted of them."""
        return self._backends.unwatched

    def is_disarmed(self, name: str) -> bool:
        """Whether a trap that was armed judges no more, for having failed or taken long."""
        return self._strikes.is_out(_DEVICE if name in self.on_device else name)

    @property
    def reach(self) -> str:
        """Where the traps can see, in one line."""
        return REACH if self.device is None else DEVICE_REACH

    def parts(self) -> Iterator[Part]:
        """What is hooked, in the order in which it is: what others need, the device check, then one part a probe."""
        judged = {trap.judges for trap in self._traps}
        chosen = [probe for probe in probes() if probe.views & judged]
        steps = self.device is not None or self._level != "warn" or bool(judged & VIEWS)
        if self.device is not None or any(probe.of_backends for probe in chosen):
            yield Part("workers", lambda _: self._backends.hooks())
        for book in self._backends.books:
            remembering = {trap.name: trap.judges for trap in self._traps if book.name in trap.remembers}
            if remembering:
                yield Part(f"book of {book.name}", partial(of_book, book), remembering)
        if steps:
            yield Part("scheduler", lambda _: Steps(self).hooks())
        if (device := self.device) is not None:
            judged_there: dict[str, type] = dict.fromkeys(self.on_device, AttentionRead)
            if device.judges_lengths or device.judges_writes:
                yield Part(TOLD, lambda _: device.told.hooks())
            if device.judges_tables:
                yield Part("device check", lambda _: device.hooks(), judged_there, ("workers", "scheduler"))
            if device.judges_writes:
                yield Part("device check of writes", lambda _: device.writes.hooks())
        for probe in chosen:
            traps = {trap.name: trap.judges for trap in self._traps if trap.judges in probe.views}
            needs = ("workers",) * probe.of_backends + ("scheduler",) * steps
            yield Part(probe.name, partial(self._probed, probe), traps, needs)

    def hooks(self) -> list[Hook]:
        """Of every part. PatchRefused if one does not fit."""
        return [hook for part in self.parts() for hook in part.hooks(frozenset(part.traps.values()))]

    def _probed(self, probe: Probe, wanted: frozenset[type]) -> list[Hook]:
        """The hooks of a probe, and, where it puts work off, of the moments when that is done."""
        context = Context(self._backends, self.sink, step_of=lambda: self.step or -1, keeps=self.KEEPS)
        made = probe.make(context, wanted)
        catch_up, settle = getattr(made, "catch_up", None), getattr(made, "settle", None)
        if settle is not None:
            self._settle.append(settle)
        return [*made.hooks(), *([] if catch_up is None else IdleWork(partial(self._caught_up, catch_up)).hooks())]

    def _caught_up(self, catch_up: Callable[[bool], None], idle: bool) -> None:
        catch_up(idle)
        if idle and time.monotonic() - self._settled >= _SETTLED_EVERY:
            self.settle()

    def settle(self) -> None:
        """Judge all that was put off. Waits for the device: for when the server idles, or a test is over."""
        self._settled = time.monotonic()
        with guard("judging what was put off"):
            for settle in self._settle:
                settle()

    def keep_only(self, names: Collection[str], parts: Collection[str]) -> None:
        """Judge no other traps: what the others look at was not hooked. parts: what was."""
        self._traps = tuple(trap for trap in self._traps if trap.name in names)
        self._by_view = ByView(self._traps)
        if self.device is not None and TOLD not in parts:
            self.device.told.refused()

    def disarm(self) -> None:
        """The hooks go. What graphs hold of ours stays, and is not to judge by what nobody keeps up to date."""
        if self.device is not None:
            with guard("disarming what graphs hold"):
                self.device.disarm()

    def begin_step(self) -> None:
        """The scheduler starts a step."""
        self.step += 1
        if self.device is not None:
            self.device.begin_step()

    def end_step(self, rids: Mapping[int, str]) -> None:
        """Upstream has waited for the device: say what was found. Raises TrapTripped as the level asks."""
        if self.device is not None and not (self.device.is_silent() or self._strikes.is_out(_DEVICE)):
            with self._strikes.watched(_DEVICE, f"reading {_DEVICE}"):
                for violation, read in self.device.found(rids):
                    self._found(violation, read)
        pending, self._pending = self._pending, None
        if pending is not None:
            raise pending

    def crashed(self, rids: Mapping[int, str], error: BaseException) -> None:
        """The server's own exception is on its way out, and the context may be dead: read pinned memory only."""
        self._alive = False
        if self.device is not None:
            for violation, read in self.device.found(rids, context_is_alive=False):
                self._found(violation, read)
                with guard("leaving the verdict for the post-mortem"):
                    _leave_verdict(violation, error)

    def sink(self, view: View) -> None:
        """Judge one view. Whatever goes wrong in here stays in here."""
        for trap in self._by_view.of(view):
            if not self._strikes.is_out(trap.name):
                found: list[Violation] = []
                with self._strikes.watched(trap.name, f"judging {trap.name}"):
                    found = list(trap.judge(view))
                    self.tally.judged(trap, view)
                if found:
                    with guard(f"telling of {trap.name}"):
                        for violation in found:
                            self._found(violation, view)
        if isinstance(view, _CALLS) and _slots(view) <= _KEPT_SLOTS:
            self._calls.append(view)

    def _found(self, violation: Violation, view: View) -> None:
        key = (violation.trap, str(violation.severity))
        if isinstance(view, PoolSwap):
            self._bad_swaps.append(view)
        self.seen[key] += 1
        self.tally.found(violation)
        if self._stops(violation, view):
            self._pending = TrapTripped(f"{verdict_line(violation)} (G4DIAG_LEVEL={self._level})")
        if self.seen[key] < self._next.get(key, 1):
            return
        is_first, dump = key not in self._next, None
        self._next[key] = self.seen[key] * _GROWTH
        recorder.mark("violation", short(violation, self.seen[key]))
        if is_first:
            with guard("writing a dump"):
                dump = self._dumped(violation, view)
                self.tally.dumped(violation)
        self._said(violation, self.seen[key], dump)

    def _said(self, violation: Violation, seen: int, dump: Path | None) -> None:
        """What a log line is for."""
        logger.error("%s", self._line(violation, seen, dump))

    def _stops(self, violation: Violation, view: View) -> bool:
        if self._level == "strict":
            return violation.severity is Severity.ERROR
        return self._level == "contain" and isinstance(view, AttentionRead) and violation.worker == "target"

    def _dumped(self, violation: Violation, view: View) -> Path:
        views: dict[str, Any] = by_field([*self._calls, view])
        if isinstance(view, AttentionRead):
            views["swaps"] = tuple(self._bad_swaps)
        incident = Incident(
            origin="g4diag",
            **views,
            pools=self._pools(view),
            mapping=view.mapping if isinstance(view, AttentionRead) else None,
            violations=(violation,),
            manifest=armed_manifest(),
            versions={name: version for name, version in installed().items() if version},
            context={
                **{"live": True, "pid": os.getpid(), "reach": self.reach, "level": self._level},
                **{"wall_ns": time.time_ns(), "mono_ns": time.monotonic_ns()},
                **({"server": self._backends.facts} if self._backends.facts else {}),
                **({"ranks": ranks} if (ranks := recorder.ranks()) else {}),
            },
            ring=recorder.tail(),
        )
        return write_dump(incident, self._dump_dir / f"live-{violation.trap}-{violation.severity}-pid{token()}.pt")

    def _pools(self, view: View) -> tuple[Any, ...]:
        with guard("reading the pools"):
            # Their free lists are on the device: out of reach once its context is dead, or while it is captured.
            if self._alive and not is_capturing() and (pools := self._backends.pools()):
                return pools
        return (view.pool,) if isinstance(view, AttentionRead | Allocation | Release | FreeList) else ()


def _slots(call: Allocation | Release | MappingUpdate) -> int:
    return len(call.full_slots_N if isinstance(call, MappingUpdate) else call.slots_N)


def _leave_verdict(violation: Violation, error: BaseException) -> None:
    if folder := run_dir(os.environ):
        said = {
            "pid": os.getpid(),
            "verdict": verdict_line(violation),
            "error": f"{type(error).__name__}: {error}"[:500],
        }
        atomic_write(folder / f"verdict-{os.getpid()}.json", json.dumps(said))
