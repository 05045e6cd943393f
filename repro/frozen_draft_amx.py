"""The frozen-KV SWA bug (sglang #26957) on intel_amx: alive in 0.5.23 as released, by the rule that fa4 has too.

IntelAMXAttnBackend asks the runner's own pool, in its constructor, whether it reads an SWA pool. A frozen-KV draft's
own is a plain one of 64 tokens; what it reads is the target's. The answer stays "no", so sliding layers are handed the
request table itself, in full-space slots. Upstream's comment beside the translation says what such slots do: they read
out of bounds once the allocator hands one out past the SWA pool. The real class is driven here, with a reference in
place of its compiled kernels; no AMX server was run.

Run it as released, with the cure, with the draft on trtllm_mha, and the twin: an EAGLE draft with a pool of its own,
whose slots no cure may translate (#25103). The backend has no CUDA graphs.
"""

from __future__ import annotations

import sys
from functools import partial

from g4diag.scenario import Options, Outcome, Progress, Scenario, State

_CURE = "frozen-draft-amx-swa-state"
_NO_GRAPHS = "raises NotImplementedError"
# Before it, no slot of any layer was translated, the target's neither.
_TRANSLATES = ("sglang.srt.layers.attention.intel_amx_backend.IntelAMXAttnBackend", "def _swa_kv_indices(")
_state = partial(State, graph=_NO_GRAPHS, backend="intel_amx")
_STATES = (
    _state("upstream", "as released", (), "faults"),
    _state("cure", "SWA state of the pool it will read", (_CURE,), "equal"),
    State(
        "flag", "the draft on trtllm_mha", (), "equal", "equal", backend="intel_amx", draft={"backend": "trtllm_mha"}
    ),
    _state("twin-upstream", "an EAGLE draft, as released", (), "equal", twin=True),
    _state("twin-cure", "an EAGLE draft, the cure", (_CURE,), "equal", twin=True),
)


def run(options: Options, progress: Progress) -> Outcome:
    """Every selected state, each from a fresh server. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.scenario.on_cpu import run_on_cpu

    return run_on_cpu(SCENARIO, options, progress, dumped="upstream")


SCENARIO = Scenario(
    name="frozen-draft-amx",
    symptom="accept length falls, or a CPU server ends in a segmentation fault, on intel_amx with a frozen-KV draft",
    upstream="none found; 0.5.23 is the first release whose intel_amx translates slots for sliding layers at all",
    states=_STATES,
    run=run,
    since=(_TRANSLATES,),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
