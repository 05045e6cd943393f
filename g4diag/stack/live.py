"""Traps armed in a running server: the probes' views judged on the host, one log line and one dump at the first
violation of each claim, then a line at a growing interval.

Host-side: a view copies its table, which synchronises, so nothing is taken while a CUDA graph is captured, and
Python does not run at all when one is replayed. Never raises into the server; with no trap it adds no hook.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from g4diag.dump.writer import write_dump
from g4diag.guard import guard
from g4diag.model import Allocation, AttentionRead, Incident, PoolSwap, View, Violation
from g4diag.stack.arming import armed_manifest, traps
from g4diag.stack.hooks import Hook, Installation, install
from g4diag.stack.probes.allocation import AllocationProbe
from g4diag.stack.probes.backends import Backends
from g4diag.stack.probes.page_table import PageTableProbe
from g4diag.stack.probes.pool_swap import PoolSwapProbe
from g4diag.stack.versions import installed
from g4diag.traps.contract import Trap

logger = logging.getLogger("g4diag")

DEFAULT_DUMP_DIR = Path("g4diag-dumps")
REACH = "traps run on the host: not while a CUDA graph is captured, nor when one is replayed"
_GROWTH = 10
_KEPT_SWAPS = 8


class Live:
    """The sink of every probe. Says and keeps what the armed traps find."""

    def __init__(self, armed: Sequence[Trap], dump_dir: Path | None) -> None:
        self._traps, self._dump_dir = tuple(armed), dump_dir or DEFAULT_DUMP_DIR
        self.seen: Counter[tuple[str, str]] = Counter()
        self._next: dict[tuple[str, str], int] = {}
        # The cause comes before its effects: kept, so that a dump of a bad read can name it.
        self._bad_swaps: deque[PoolSwap] = deque(maxlen=_KEPT_SWAPS)
        self._backends = Backends(self.sink)

    def hooks(self) -> list[Hook]:
        """Of the probes whose views an armed trap judges, and no others."""
        judged = {trap.judges for trap in self._traps}
        probes: list[Any] = [self._backends] if judged & {AttentionRead, PoolSwap} else []
        if PoolSwap in judged:
            probes.append(PoolSwapProbe(self._backends, self.sink))
        if AttentionRead in judged:
            probes.append(PageTableProbe(self._backends, self.sink, step_of=lambda: -1))
        if Allocation in judged:
            probes.append(AllocationProbe(self.sink))
        return [hook for probe in probes for hook in probe.hooks()]

    def sink(self, view: View) -> None:
        """Judge one view. Whatever goes wrong in here stays in here."""
        for trap in self._traps:
            if isinstance(view, trap.judges):
                with guard(f"judging {trap.name}"):
                    for violation in trap.judge(view):
                        self._found(violation, view)

    def _found(self, violation: Violation, view: View) -> None:
        key = (violation.trap, str(violation.severity))
        if isinstance(view, PoolSwap):
            self._bad_swaps.append(view)
        self.seen[key] += 1
        if self.seen[key] < self._next.get(key, 1):
            return
        is_first = key not in self._next
        self._next[key] = self.seen[key] * _GROWTH
        dump = None
        if is_first:
            with guard("writing a dump"):
                dump = self._dumped(violation, view)
        logger.error("%s", log_line(violation, self.seen[key], dump))

    def _dumped(self, violation: Violation, view: View) -> Path:
        swaps = tuple(self._bad_swaps)
        incident = Incident(
            origin="g4diag",
            reads=(view,) if isinstance(view, AttentionRead) else (),
            swaps=swaps if isinstance(view, AttentionRead) else (view,) if isinstance(view, PoolSwap) else (),
            allocations=(view,) if isinstance(view, Allocation) else (),
            pools=self._pools(view),
            mapping=view.mapping if isinstance(view, AttentionRead) else None,
            violations=(violation,),
            manifest=armed_manifest(),
            versions={name: version for name, version in installed().items() if version},
            context={"live": True, "pid": os.getpid(), "reach": REACH},
        )
        name = f"live-{violation.trap}-{violation.severity}-pid{os.getpid()}.pt"
        return write_dump(incident, self._dump_dir / name)

    def _pools(self, view: View) -> tuple[Any, ...]:
        with guard("reading the pools"):
            if pools := self._backends.pools():
                return pools
        return () if isinstance(view, PoolSwap) else (view.pool,)


def armed(names: Sequence[str], dump_dir: Path | None) -> Installation:
    """Install the probes of these traps; undo by leaving. PatchRefused if a probe does not fit."""
    known = traps()
    return install("g4diag traps", Live([known[name] for name in names], dump_dir).hooks())


def log_line(violation: Violation, seen: int, dump: Path | None) -> str:
    """One greppable line of key=value; no value holds a blank but the last, which is quoted."""
    past = None
    if violation.value is not None and violation.bound is not None and violation.value >= violation.bound:
        past = violation.value - violation.bound + 1
    fields = {
        "trap": violation.trap,
        "severity": violation.severity,
        "seen": seen,
        "worker": violation.worker,
        "phase": violation.phase,
        "path": violation.path,
        "backend": violation.backend,
        "layer": violation.layer_id,
        "kind": violation.layer_kind,
        "window": violation.window_left,
        "row": violation.row,
        "request": violation.rid,
        "column": violation.column,
        "value": violation.value,
        "expected": violation.expected,
        "low": violation.low if violation.bound is not None else None,
        "bound": violation.bound,
        "past": past,
        "space": violation.value_space,
        "wanted_space": violation.expected_space,
        "count": violation.count,
        "checked": violation.checked,
        "dump": dump,
    }
    said = (f"{key}={str(value).replace(' ', '_')}" for key, value in fields.items() if value not in (None, ""))
    return f'g4diag violation {" ".join(said)} summary="{violation.summary}"'
