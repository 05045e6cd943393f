"""A run under every live trap: what was seen, what fired, and the dumps that g4diag wrote of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g4diag.dump.reader import read_dump
from g4diag.hooks.install import install
from g4diag.hooks.manifest import recorded
from g4diag.model import Incident, Severity, View, Violation
from g4diag.stack.drive import cpu
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live

if TYPE_CHECKING:
    from tests.injected.contract import Fault

_FIELDS = ("worker", "phase", "path", "layer_id", "call", "site", "moment")


class Watched(Live):
    """The live sink, which also keeps every view."""

    def __init__(self) -> None:
        super().__init__(list(traps().values()), None)
        self.views: list[View] = []
        self.dumps: list[tuple[str, View, Path]] = []

    def reset(self, folder: Path) -> None:
        """As if just armed, with its dumps going there. The server of the run before is in cycles."""
        gc.collect()
        for kept in (self.views, self.dumps, self.seen, self._next, self._bad_swaps, self._calls, self._backends.facts):
            kept.clear()
        self._dump_dir, self.step = folder, 0

    def sink(self, view: View) -> None:
        self.views.append(view)
        super().sink(view)

    def begin(self) -> None:
        """Forget what came before: the fault, or its absence, is from here on."""
        self.views.clear()

    def incident(self, view: View) -> Incident:
        """What a dump of this view would hold had a trap fired at it; the trap it is written for is none."""
        nothing = Violation(trap="none", severity=Severity.WARNING, summary="")
        path = super()._dumped(nothing, view)
        found = replace(read_dump(path), violations=())
        path.unlink()
        return found

    def _dumped(self, violation: Violation, view: View) -> Path:
        path = super()._dumped(violation, view)
        self.dumps.append((violation.trap, view, path))
        return path


@dataclass
class Run:
    """views: what was seen from `begin` on. fired: names of traps, in the order in which they first did. incidents: by
    the trap they were written for; by "" the one of a view that shows the fault, where nothing fired."""

    views: list[View] = field(default_factory=list)
    fired: tuple[str, ...] = ()
    bad: View | None = None
    incidents: dict[str, Incident] = field(default_factory=dict)


@contextmanager
def watched() -> Iterator[Watched]:
    """Every trap armed for the body: that costs more than a run."""
    import torch

    def blind(query: Any, **arguments: Any) -> Any:
        return torch.zeros_like(query)

    live = Watched()
    with (
        cpu.attention_kernels(blind, blind),
        install("test", live.hooks()),
        recorded("traps", list(traps())),
    ):
        yield live


def run(fault: Fault, folder: Path, broken: bool, live: Watched, like: View | None = None) -> Run:
    """Drive it once. like: a view of the broken run, whose twin the healthy one's dump is to hold."""
    live.reset(folder)
    with install("fault", fault.hooks() if broken else ()):  # probes stand around it, whenever they came
        fault.drive(live, broken)
        found = Run(list(live.views), tuple(dict.fromkeys(trap for trap, _, _ in live.dumps)))
        found.incidents = {trap: _timeless(read_dump(path), i) for i, (trap, _, path) in enumerate(live.dumps)}
        found.bad = live.dumps[0][1] if live.dumps else None
        if not found.fired:
            shown = [view for view in live.views if (fault.shows(view) if like is None else _is_like(view, like))]
            if shown:
                found.bad = shown[-1]
                found.incidents[""] = _timeless(live.incident(shown[-1]), 0)
    return found


def _is_like(view: View, other: View) -> bool:
    pools = [getattr(getattr(each, "pool", None), "name", None) for each in (view, other)]
    same = all(getattr(view, name, None) == getattr(other, name, None) for name in _FIELDS)
    return type(view) is type(other) and pools[0] == pools[1] and same


def _timeless(incident: Incident, order: int) -> Incident:
    """The same in each process: a step apart, by clocks that begin at 1 s."""
    clock = 1_000_000_000 + order * 1_000_000
    return replace(incident, context={**incident.context, "pid": 1, "wall_ns": clock, "mono_ns": clock})
