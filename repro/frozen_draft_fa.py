"""The frozen-KV SWA bug (sglang #26957) on fa4: alive in 0.5.23 as released, without a fault and without a log line.

FlashAttentionBackend asks the runner's own pool, in its constructor, whether it reads an SWA pool. A frozen-KV draft's
own pool is a plain one of 64 tokens; what it reads is the target's, which both views swap in. The answer stays "no": it
builds full-space tables only and hands them to sliding layers. Target verify protects the output, so only the accept
length falls: on an H100, 1.25 for 3.31. trtllm_mha has a rule that looks at both sides since #27491.

Run it as released, with the cure, with the draft on trtllm_mha, and the twin: an EAGLE draft with a pool of its own,
whose tables no cure may translate (#25103).
"""

from __future__ import annotations

import sys

from g4diag.scenario import Load, Options, Outcome, Progress, Scenario, ServerState, State

_CURE = "frozen-draft-fa-swa-state"
_ACCEPTED = ("sglang.srt.arg_groups.model_hook", "Gemma4 only supports trtllm_mha, triton, fa4")
_STATES = (
    State("upstream", "as released", (), "faults", "faults", backend="fa4"),
    State("cure", "SWA state of the pool it will read", (_CURE,), "equal", "equal", backend="fa4"),
    State("flag", "the draft on trtllm_mha", (), "equal", "equal", backend="fa4", draft={"backend": "trtllm_mha"}),
    State("twin-upstream", "an EAGLE draft, as released", (), "equal", "equal", twin=True, backend="fa4"),
    State("twin-cure", "an EAGLE draft, the cure", (_CURE,), "equal", "equal", twin=True, backend="fa4"),
)
_FA4 = dict.fromkeys(
    ("prefill_attention_backend", "decode_attention_backend", "speculative_draft_attention_backend"), "fa4"
)
_SERVER_STATES = (
    ServerState("upstream", "as released", (), "finished", _FA4),
    ServerState("traps", "as released, traps at level warn", (), "finished", _FA4, traps="page-table,swa-state"),
    ServerState("cure", "SWA state of the pool it will read", (_CURE,), "finished", _FA4),
    ServerState(
        "cure-strict",
        "the cure, all traps at level strict",
        (_CURE,),
        "finished",
        _FA4,
        {"G4DIAG_TRAPS": "all", "G4DIAG_LEVEL": "strict"},
    ),
    ServerState(
        "flag", "the draft on triton", (), "finished", _FA4 | {"speculative_draft_attention_backend": "triton"}
    ),
)


def run(options: Options, progress: Progress) -> Outcome:
    """Every selected state, each from a fresh server. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.scenario.on_cpu import run_on_cpu

    return run_on_cpu(SCENARIO, options, progress, dumped="upstream")


SCENARIO = Scenario(
    name="frozen-draft-fa",
    symptom="accept length falls to little more than 1 on fa4 with a frozen-KV draft; outputs right, nothing logged",
    upstream="none found; alive in 0.5.23, the first releases that accept fa4 for Gemma-4 being 0.5.22 and 0.5.23",
    states=_STATES,
    run=run,
    server_states=_SERVER_STATES,
    load=Load(pair="accepting"),
    since=(_ACCEPTED,),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
