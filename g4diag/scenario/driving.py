"""Drive single classes of sglang, state by state, under every probe and trap: mechanism, no scenario itself.

A scenario file hands its states and one function to `driven`. The function does what a server would do to the real
classes, in the shortest way that shows the bug, and counts the damage by itself; the traps judge what probes see.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g4diag.errors import CannotRunError, UsageError
from g4diag.model import Incident, View
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
    start,
)
from g4diag.scenario.seen import Seen, watching, watching_without_model
from g4diag.settings import dump_dir

if TYPE_CHECKING:
    from g4diag.traps.contract import Trap

_LOAD = Load()
_SIZES = ("requests", "page_size", "ratio", "window", "chunk")
_AND = " + "  # between the traps that fired in one state


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
    without_model: bool = False,
    plans: tuple[str, ...] = (),
) -> Scenario:
    """A scenario whose states are drives. drive: called once a state with the state's arguments; it may import sglang
    inside, and finds the process set up for driving it on the CPU. without_model, plans: as a Scenario has them."""

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
        without_model=without_model,
        plans=plans,
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
    with as_old_as_it_is(scenario), _watching(scenario) as seen:
        start.imported()
        for i, state in enumerate(states):
            progress(f"{state.name}: {state.what}", i, len(states))
            begun = time.perf_counter()
            reading, incident = _driven(scenario, state, drive, seen)
            seconds[state.name] = time.perf_counter() - begun
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


def _watching(scenario: Scenario) -> AbstractContextManager[Seen]:
    return watching_without_model(scenario.name, scenario.plans) if scenario.without_model else watching()


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
