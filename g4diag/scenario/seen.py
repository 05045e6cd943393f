"""What probes see of a drive and traps say of it, state by state: mechanism, no scenario itself."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from g4diag.errors import VacuousError
from g4diag.model import (
    Allocation,
    AttentionRead,
    FreeList,
    Incident,
    MappingUpdate,
    PoolView,
    Release,
    View,
    Violation,
    by_field,
)

if TYPE_CHECKING:
    from g4diag.hooks.install import Hook

_OF_THE_ALLOCATOR = (Allocation, Release, FreeList, MappingUpdate)
_BEFORE, _AFTER = 12, 4  # views of the allocator before the first bad one, and bad ones, that a dump keeps


@dataclass
class Seen:
    """What probes saw and traps said of one state. pools: as they were at the first violation."""

    pools_now: Callable[[], tuple[PoolView, ...]] = tuple
    views: list[View] = field(default_factory=list)
    violations: list[tuple[int, Violation]] = field(default_factory=list)
    pools: tuple[PoolView, ...] = ()

    def sink(self, view: View) -> None:
        """Keep and judge one view."""
        from g4diag.scenario.measure import judge_all

        found = [(len(self.views), violation) for violation in judge_all(view)]
        self.views.append(view)
        if found and not self.violations:
            self.pools = self.pools_now()
        self.violations += found

    def clear(self) -> None:
        """Begin another state. The servers of the one before are in cycles, and probes know what is alive."""
        gc.collect()
        self.views, self.violations, self.pools = [], [], ()

    def fired(self) -> tuple[str, ...]:
        """Names of the traps that fired, sorted."""
        return tuple(sorted({violation.trap for _, violation in self.violations}))

    def incident(self) -> Incident | None:
        """The first bad view with what the allocator did just before it, and the next bad ones; None if none was."""
        if not self.violations:
            return None
        bad = list(dict.fromkeys(i for i, _ in self.violations))[:_AFTER]
        calls = [i for i in range(bad[0]) if isinstance(self.views[i], _OF_THE_ALLOCATOR)]
        kept = [self.views[i] for i in [*calls[-_BEFORE:], *bad]]
        places: dict[str, Any] = by_field(kept)
        first = self.views[bad[0]]
        return Incident(
            origin="g4diag",
            **places,
            pools=self.pools or ((first.pool,) if isinstance(first, Allocation | Release | FreeList) else ()),
            mapping=first.mapping if isinstance(first, AttentionRead) else None,
            violations=tuple(violation for i, violation in self.violations if i in bad),
        )


@contextmanager
def watching(stock_every: int = 256) -> Iterator[Seen]:
    """Every probe hooked for the body: that costs more than a state. Attention kernels look at nothing. stock_every:
    calls on an allocator between two looks at its free list."""
    import torch

    from g4diag.stack.drive import cpu
    from g4diag.stack.probes.contract import Context, made
    from g4diag.stack.probes.workers import Backends

    seen = Seen()
    backends = Backends(seen.sink)
    seen.pools_now = backends.pools
    probes = made(Context(backends, seen.sink, stock_every=stock_every))

    def blind(query: Any, **arguments: Any) -> Any:
        return torch.zeros_like(query)

    # The kernels first: a probe that looks at their calls stands around them.
    with cpu.attention_kernels(blind, blind), _hooked([hook for probe in probes for hook in probe.hooks()]):
        yield seen


@contextmanager
def watching_without_model(scenario: str, plans: tuple[str, ...] = ()) -> Iterator[Seen]:
    """The same where no model is run: no other probe would see a view, and asking them imports what runs models. plans:
    as a Scenario has it. VacuousError if the body imported more, or ran a forward of those."""
    from g4diag.stack.drive import cpu, without_model
    from g4diag.stack.probes.contract import Context, made
    from g4diag.stack.probes.workers import Backends

    cpu.use_one_thread()
    seen, pools, before = Seen(), without_model.Pools(), without_model.runs_models()
    planning = without_model.Planning(plans, seen.sink)
    seen.pools_now = pools.now
    probes = made(Context(Backends(seen.sink), seen.sink), frozenset(_OF_THE_ALLOCATOR))
    with _hooked([*pools.hooks(), *planning.hooks(), *(hook for probe in probes for hook in probe.hooks())]):
        yield seen
    if met := sorted((without_model.runs_models() - before - planning.modules) | planning.ran):
        raise VacuousError(f"{scenario}: vacuous: it says that it runs no model, and no probe saw {met[0]}")


@contextmanager
def _hooked(hooks: list[Hook]) -> Iterator[None]:
    from g4diag.hooks.install import install
    from g4diag.hooks.manifest import recorded
    from g4diag.stack.live.selection import traps

    with install("g4diag repro", hooks), recorded("traps", list(traps())):
        yield
