"""Drive single classes of sglang, state by state, under every probe and trap: mechanism, no scenario itself.

A scenario file hands its states and one function to `driven`. The function does what a server would do to the real
classes, in the shortest way that shows the bug, and counts the damage by itself; the traps judge what probes see.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g4diag.errors import CannotRunError, UsageError
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
from g4diag.scenario import (
    SILENT,
    Drive,
    DriveOutcome,
    DriveReading,
    Found,
    Line,
    Load,
    Options,
    Progress,
    Scenario,
    ServerState,
)
from g4diag.settings import dump_dir

if TYPE_CHECKING:
    from g4diag.traps.contract import Trap

_LOAD = Load()
_OF_THE_ALLOCATOR = (Allocation, Release, FreeList, MappingUpdate)
_SIZES = ("requests", "page_size", "ratio", "window", "chunk")
_AND = " + "  # between the traps that fired in one state
_BEFORE, _AFTER = 12, 4  # views of the allocator before the first bad one, and bad ones, that a dump keeps


def driven(
    drive: Callable[..., Found],
    *,
    name: str,
    symptom: str,
    upstream: str,
    drives: tuple[Drive, ...],
    since: tuple[Line, ...] = (),
    before: tuple[Line, ...] = (),
    server_states: tuple[ServerState, ...] = (),
    load: Load = _LOAD,
) -> Scenario:
    """A scenario whose states are drives. drive: called once a state with the state's arguments; it may import sglang
    inside, and finds the process set up for driving it on the CPU."""

    def run(options: Options, progress: Progress) -> DriveOutcome:
        return run_drives(made, drive, options, progress)

    made = Scenario(
        name,
        symptom,
        upstream,
        states=(),
        run=run,
        server_states=server_states,
        load=load,
        drives=drives,
        since=since,
        before=before,
    )
    return made


def run_drives(scenario: Scenario, drive: Callable[..., Found], options: Options, progress: Progress) -> DriveOutcome:
    """Every selected state that applies to the installed release. A dump for each in which a trap fired, if there is to
    be a folder. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.hooks.versions import installed
    from g4diag.scenario.applicable import applicable, as_old_as_it_is, too_early
    from g4diag.stack import releases
    from g4diag.stack.drive import cpu

    if given := [size for size in _SIZES if getattr(options, size) is not None]:
        raise UsageError(f"{scenario.name}: its sizes are part of it; found --{given[0].replace('_', '-')}")
    selected = scenario.selected_drives(options.states)
    releases.require()
    states, left_out = applicable(scenario.name, selected)
    cpu.prepare_environment()
    from g4diag.scenario.measure import faults_of

    readings, seconds, dumps, lines = [], {}, dict[str, Path](), list[str]()
    with as_old_as_it_is(scenario), watching() as seen:
        for i, state in enumerate(states):
            progress(f"{state.name}: {state.what}", i, len(states))
            start = time.perf_counter()
            reading, incident = _driven(scenario, state, drive, seen)
            seconds[state.name] = time.perf_counter() - start
            readings.append(reading)
            if incident is not None:
                folder = dump_dir(options.dump_dir)
                dumps[state.name] = _written(incident, folder / f"{scenario.name}-{state.name}.pt")
                lines = lines or _verdict(incident)
    outcome = DriveOutcome(
        scenario.name,
        installed(),
        faults_of(states),
        tuple(readings),
        lines=tuple(lines),
        dumps=dumps,
        seconds=seconds,
        upstream=scenario.upstream,
        left_out=left_out,
        too_early=too_early(scenario),
    )
    outcome.require_substance()
    return outcome


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

    from g4diag.hooks.install import install
    from g4diag.hooks.manifest import recorded
    from g4diag.stack.drive import cpu
    from g4diag.stack.live.selection import traps
    from g4diag.stack.probes.contract import Context, made
    from g4diag.stack.probes.workers import Backends

    seen = Seen()
    backends = Backends(seen.sink)
    seen.pools_now = backends.pools
    hooks = [hook for probe in made(Context(backends, seen.sink, stock_every=stock_every)) for hook in probe.hooks()]

    def blind(query: Any, **arguments: Any) -> Any:
        return torch.zeros_like(query)

    # The kernels first: a probe that looks at their calls stands around them.
    with cpu.attention_kernels(blind, blind), install("g4diag repro", hooks), recorded("traps", list(traps())):
        yield seen


def _driven(
    scenario: Scenario, state: Drive, drive: Callable[..., Found], seen: Seen
) -> tuple[DriveReading, Incident | None]:
    from dataclasses import replace

    from g4diag.hooks.install import install
    from g4diag.hooks.versions import installed
    from g4diag.patches.applying import applied
    from g4diag.stack.live.selection import traps

    seen.clear()
    found, error = Found(0, 0), ""
    with ExitStack() as on:
        manifest = on.enter_context(applied(state.patches))
        on.enter_context(install(f"{scenario.name}/{state.name}", state.hooks()))
        try:
            found = drive(**state.arguments)
        except CannotRunError:
            raise
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}".splitlines()[0]
    expected = {name for outcome in scenario.outcomes for name in outcome.split(_AND)}
    wanted = [trap for name, trap in traps().items() if name in expected]
    reading = DriveReading(
        state=state.name,
        twin=state.twin,
        checked=found.checked,
        damaged=found.damaged,
        judged=_judged(state, wanted, seen.views),
        traps=seen.fired(),
        outcome=_outcome(found, seen.fired(), error),
        expected=state.expected,
        evidence=dict(found.evidence),
        says=found.says,
        error=error,
        what=state.what,
        as_released=state.as_released,
    )
    if (incident := seen.incident()) is None:
        return reading, None
    versions = {name: version for name, version in installed().items() if version}
    context: dict[str, Any] = {"scenario": scenario.name, "state": state.name}
    if found.flags is not None:
        context["server"] = {"flags": dict(found.flags)}
    return reading, replace(incident, manifest=manifest, versions=versions, context=context)


def _judged(state: Drive, wanted: list[Trap], views: list[View]) -> int | None:
    if not wanted or not {SILENT, *(trap.name for trap in wanted)}.issuperset(state.expected.split(_AND)):
        return None
    return sum(any(isinstance(view, trap.judges) for trap in wanted) for view in views)


def _outcome(found: Found, fired: tuple[str, ...], error: str) -> str:
    if error:
        return f"raises {error.partition(':')[0]}"
    if fired:
        return _AND.join(fired) + ("" if found.damaged else ", and no damage")
    return found.called if found.damaged else SILENT


def _written(incident: Incident, path: Path) -> Path:
    from g4diag.dump.writer import write_dump

    return write_dump(incident, path)


def _verdict(incident: Incident) -> list[str]:
    from g4diag.analyzers.verdict import verdict_lines

    return list(verdict_lines(incident))
