"""The seed bug: a frozen-KV MTP draft on trtllm_mha hands full-pool page ids to sliding-window layers.

The draft's backend resolves its SWA state in its constructor, from the draft's own 64-token pool under the rule
of sglang #25103. The frozen-KV views then swap the pool and not the state, so tables stay in full-page space and
the sliding layers' k_cache, with far fewer pages, is read past its end. First silently (wrong pages that exist),
later with a Warp Illegal Address. What triggers it is not a use of 85 % but SWA pages freed apart from full pages.

Run the same requests under the released rule, the faulty one, the clamp that hides it, patch E on the views
alone, and patch E whole; then the twin, a draft with a pool of its own, which no cure may translate (#25103).
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace

from g4diag.scenario import Options, Outcome, Progress, Reading, Scenario, State

_STATES = (
    State("upstream", "0.5.13 as released (#27491)", (), "equal", "equal"),
    State("faulty", "the rule of #25103 put back", ("faulty-rule",), "faults", "faults"),
    State("clamp", "faulty, table clamped into the pool", ("faulty-rule", "clamp"), "wrong", "wrong"),
    State("patch-e-views", "faulty, SWA state swapped in views", ("faulty-rule", "patch-e-views"), "equal", "faults"),
    State("patch-e", "faulty, the complete cure", ("faulty-rule", "patch-e"), "equal", "equal"),
    State("twin-upstream", "eagle-own-pool, as released", (), "equal", "equal", twin=True),
    State("twin-faulty", "eagle-own-pool, rule of #25103", ("faulty-rule",), "equal", "equal", twin=True),
    State("twin-patch-e", "eagle-own-pool, the cure", ("faulty-rule", "patch-e"), "equal", "equal", twin=True),
    State("twin-allocator", "eagle-own-pool, rule of #18970", ("allocator-rule",), "wrong", "wrong", twin=True),
)
_DUMPED_STATE = "faulty"


def run(options: Options, progress: Progress) -> Outcome:
    """Every selected state, each from a fresh server. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.stack.versions import installed, require_sglang

    require_sglang("0.5.13")
    from g4diag.stack import cpu

    cpu.prepare_environment()
    from g4diag.stack.serving import Geometry

    given = {name: getattr(options, name) for name in ("requests", "page_size", "ratio", "window", "chunk")}
    geometry = replace(Geometry(), **{name: value for name, value in given.items() if value is not None})
    geometry.check()
    from repro.measure import faults_of, measure, probed

    readings: list[Reading] = []
    seconds: dict[str, float] = {}
    kept = None
    states = SCENARIO.selected(options.states)
    with probed() as probes:
        for i, state in enumerate(states):
            progress(f"{state.name}: {state.what}", i, len(states))
            start = time.perf_counter()
            measured = measure(state, geometry, options.seed, probes)
            seconds[state.name] = time.perf_counter() - start
            readings += measured.readings
            kept = measured if state.name == _DUMPED_STATE else kept
    outcome = Outcome(
        scenario=SCENARIO.name,
        seed=options.seed,
        geometry=asdict(geometry) | {"swa_tokens": geometry.swa_tokens},
        versions=installed(),
        faults=faults_of(states),
        readings=tuple(readings),
        seconds=seconds,
    )
    outcome.require_substance()
    return outcome if kept is None else kept.written(outcome, options.dump_dir)


SCENARIO = Scenario(
    name="trtllm-mha-swa",
    symptom="CUDA illegal memory access in the draft's sliding layers, only under load; before it, accept length falls",
    upstream="introduced by sglang #25103, cured by #27491; mirror bug #18970/#26966",
    needs=("cpu",),
    states=_STATES,
    run=run,
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
