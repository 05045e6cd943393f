"""Run a scenario's states on the CPU, each from a fresh server: mechanism for scenario files, no scenario itself."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from g4diag.scenario import Options, Outcome, Progress, Reading, Scenario, start


def run_on_cpu(scenario: Scenario, options: Options, progress: Progress, dumped: str = "") -> Outcome:
    """Every selected state that applies to the installed release. dumped: the state whose first bad read is written to
    a dump. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.hooks.aliases import one_pass
    from g4diag.hooks.versions import installed
    from g4diag.scenario.applicable import applicable, as_old_as_it_is, too_early
    from g4diag.stack import releases

    releases.require()
    states, left_out = applicable(scenario.name, scenario.selected(options.states))
    from g4diag.stack.drive import cpu

    cpu.prepare_environment()
    from g4diag.stack.drive.serving import Geometry

    given = {name: getattr(options, name) for name in ("requests", "page_size", "ratio", "window", "chunk")}
    geometry = replace(Geometry(), **{name: value for name, value in given.items() if value is not None})
    geometry.check()
    from g4diag.scenario.measure import faults_of, measure, probed
    from g4diag.stack.drive.index_kernels import in_torch

    readings: list[Reading] = []
    seconds: dict[str, float] = {}
    kept = None
    # Each state hooks a few functions and leaves them as they were: one look through all modules does for every state.
    with one_pass(), as_old_as_it_is(scenario), in_torch(options.interpreted), probed() as probes:
        start.imported()
        for i, state in enumerate(states):
            progress(f"{state.name}: {state.what}", i, len(states))
            begun = time.perf_counter()
            measured = measure(state, geometry, options.seed, probes)
            seconds[state.name] = time.perf_counter() - begun
            readings += measured.readings
            kept = measured if state.name == dumped else kept
    outcome = Outcome(
        scenario=scenario.name,
        seed=options.seed,
        geometry=asdict(geometry) | {"swa_tokens": geometry.swa_tokens},
        versions=installed(),
        faults=faults_of(states),
        readings=tuple(readings),
        seconds=seconds,
        left_out=left_out,
        too_early=too_early(scenario),
        index_kernels="triton, interpreted" if options.interpreted else "torch",
    )
    outcome.require_substance()
    return outcome if kept is None else kept.written(outcome, options.dump_dir)
