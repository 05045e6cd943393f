"""The frozen-KV SWA bug (sglang #26957): an MTP draft on trtllm_mha hands full-pool page ids to sliding-window layers.

The draft's backend resolves its SWA state in its constructor, from the draft's own 64-token pool under the rule
of sglang #25103. The frozen-KV views then swap the pool and not the state, so tables stay in full-page space and
the sliding layers' k_cache, with far fewer pages, is read past its end. First silently (wrong pages that exist),
later with a Warp Illegal Address. What triggers it is not a use of 85 % but SWA pages freed apart from full pages.

Run the same requests under the released rule, the faulty one, the clamp that hides it, patch E on the views
alone, and patch E whole; then the twin, a draft with a pool of its own, which no cure may translate (#25103).
"""

from __future__ import annotations

import sys

from g4diag.scenario import Load, Options, Outcome, Progress, Scenario, ServerState, State, Where

_BACKENDS = "sglang.srt.layers.attention"
# Where writes too follow the rule, a draft of its own pool that is taken for a hybrid one dies in its first prefill.
_TRANSLATES_WRITES = (
    (f"{_BACKENDS}.flashinfer_backend", "self.use_sliding_window_kv_pool = self._swa_kv_pool is not None"),
    (
        f"{_BACKENDS}.trtllm_mha_backend.TRTLLMHAAttnBackend.init_forward_metadata",
        "self.token_to_kv_pool.translate_loc_from_full_to_swa(",
    ),
)
_DIES = (Where(_TRANSLATES_WRITES, "raises AttributeError"),)
# A graph's tables are built by one kernel, which wants a mapping wherever there is an SWA table.
_ASSERTS = ((f"{_BACKENDS}.triton_ops.trtllm_mha_page_table.build_trtllm_mha_page_table", "assert has_swa == ("),)
_STATES = (
    State("upstream", "as released (#27491)", (), "equal", "equal"),
    State("faulty", "the rule of #25103 put back", ("faulty-rule",), "faults", "faults"),
    State("clamp", "faulty, table clamped into the pool", ("faulty-rule", "clamp"), "wrong", "wrong"),
    State(
        "patch-e-views",
        "faulty, SWA state swapped in views",
        ("faulty-rule", "patch-e-views"),
        "equal",
        "faults",
        where=(Where(_ASSERTS, "raises AssertionError", "graph"),),
    ),
    State("patch-e", "faulty, the complete cure", ("faulty-rule", "patch-e"), "equal", "equal"),
    State("twin-upstream", "eagle-own-pool, as released", (), "equal", "equal", twin=True),
    State("twin-faulty", "eagle-own-pool, rule of #25103", ("faulty-rule",), "equal", "equal", twin=True),
    State("twin-patch-e", "eagle-own-pool, the cure", ("faulty-rule", "patch-e"), "equal", "equal", twin=True),
    State(
        "twin-allocator",
        "eagle-own-pool, rule of #18970",
        ("allocator-rule",),
        "wrong",
        "wrong",
        twin=True,
        where=_DIES,
    ),
)
_SERVER_STATES = (
    ServerState("upstream", "as released (#27491)", (), "finished"),
    # On torch 2.14 an eager server's next call is often cuBLAS's, which says no more than that it failed.
    ServerState("faulty", "the rule of #25103 put back", ("faulty-rule",), "illegal-access or cublas-failed"),
    ServerState("clamp", "faulty, table clamped into the pool", ("faulty-rule", "clamp"), "finished"),
    ServerState("patch-e", "faulty, the complete cure", ("faulty-rule", "patch-e"), "finished"),
    ServerState(
        "triton",
        "as released, the triton backend in place of trtllm_mha",
        (),
        "finished",
        engine={"decode_attention_backend": "triton", "speculative_draft_attention_backend": "triton"},
    ),
)


def run(options: Options, progress: Progress) -> Outcome:
    """Every selected state, each from a fresh server. Raises CannotRunError, UsageError, VacuousError."""
    from g4diag.scenario.on_cpu import run_on_cpu

    return run_on_cpu(SCENARIO, options, progress, dumped="faulty")


SCENARIO = Scenario(
    name="trtllm-mha-swa",
    symptom="CUDA illegal memory access in the draft's sliding layers, only under load; before it, accept length falls",
    upstream="introduced by sglang #25103, cured by #27491; mirror bug #18970/#26966",
    states=_STATES,
    run=run,
    server_states=_SERVER_STATES,
    # Two bugs of 0.5.13 kept out: the first costs the draft its accept length on Hopper, the second ends an eager
    # server at the first accepted draft token. Scenarios of their own show them.
    load=Load(patches=("xqa-strided-query",), eager_patches=("eager-draft-out-cache-loc",), pair="accepting"),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
