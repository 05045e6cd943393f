"""A second bug, alive in 0.5.13: a frozen-KV draft behind a hybrid wrapper reads its own 64-token pool.

With a prefill backend other than the decode backend (on Hopper the only way to decode with trtllm_mha) and no
--speculative-draft-attention-backend, the draft's backend is a HybridAttnBackend. The frozen-KV views swap the pool
on the wrapper; the child that reads keeps the draft's own. What comes of it depends on the layer the assistant reads:
past its own layer count `IndexError: list index out of range` in `memory_pool._get_key_buffer` and a dead scheduler,
below it reads past a pool of 64 tokens, without a word. No SWA, no load and no luck is needed: the first decode does.

Run it as released with either outcome, with the cure, and with the flag, which avoids the wrapper.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Load, Options, Outcome, Progress, Scenario, ServerState, State

_CURE = "hybrid-wrapper-pool-swap"
_RAISES = "raises IndexError"
_STATES = (
    # The target has three layers and the assistant reads the last two: 1 and 2.
    State("upstream", "as released", (), _RAISES, _RAISES, draft={"hybrid": True}),
    State(
        "in-range", "the same, assistant of four layers", (), "faults", "faults", draft={"hybrid": True, "layers": 4}
    ),
    State("cure", "views swap the wrapper's children", (_CURE,), "equal", "equal", draft={"hybrid": True}),
    State("cure-in-range", "four layers", (_CURE,), "equal", "equal", draft={"hybrid": True, "layers": 4}),
    State("flag", "the draft backend named: no wrapper", (), "equal", "equal"),
)
_NO_FLAG = {"speculative_draft_attention_backend": None}
_SERVER_STATES = (
    ServerState("upstream", "as released, no draft backend named", (), "index-error", _NO_FLAG),
    ServerState("cure", "views swap the wrapper's children", (_CURE,), "finished", _NO_FLAG),
    ServerState("flag", "the draft backend named: no wrapper", (), "finished"),
)


def run(options: Options, progress: Progress) -> Outcome:
    """Every selected state, each from a fresh server. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.scenario.on_cpu import run_on_cpu

    return run_on_cpu(SCENARIO, options, progress, dumped="in-range")


SCENARIO = Scenario(
    name="hybrid-wrapper",
    symptom="IndexError: list index out of range in _get_key_buffer at the first decode, scheduler dead",
    upstream="none found; alive in 0.5.13 and, by reading, in 0.5.23",
    states=_STATES,
    run=run,
    server_states=_SERVER_STATES,
    load=Load(requests=8, prompt=1000, new_tokens=32, eager_patches=("eager-draft-out-cache-loc",)),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
