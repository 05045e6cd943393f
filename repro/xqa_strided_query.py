"""A sixth bug, alive in 0.5.13: XQA reads packed query rows and is handed a slice of the qkv buffer.

On Hopper and SM120 FlashInfer's XQA runs trtllm_mha decode. It gets the query's address and no strides; on CUDA
Gemma-4's query is a slice of the qkv buffer, and `TRTLLMHAAttnBackend` hands it on as a view. Row 0 is read where it
is, every later row of the batch from a place that belongs to others. On an H100 the accepting pair's draft has an
accept length of 1.678 that way and of 3.295 on triton, with the same output, which verify guards. Without a draft the
output itself is wrong: 17.7 % of its tokens were right. Issue #31641 is the same on SM120; #22517 let it in, #31667 is
the cure, in 0.5.16. With the cure the same H100 has triton's 3.295, eager and with graphs, and the right tokens.
A verify on XQA (`--speculative-attention-mode decode`) does not come that far: it dies for want of a mask.

Decode one step of three requests on the target's real layers, their queries where CUDA leaves them, with a reference
kernel that reads as XQA does: as released, with the cure, and with queries that are packed, as on the CPU.
"""

from __future__ import annotations

import sys

from g4diag.patches.backend_rule import BACKEND
from g4diag.scenario import Drive, Found, Load, ServerState, Where
from g4diag.scenario.driving import driven

_CURE = "xqa-strided-query"
_TRITON = {"decode_attention_backend": "triton", "speculative_draft_attention_backend": "triton"}
_SPECULATIVE = (
    "algorithm",
    "draft_model_path",
    "num_steps",
    "eagle_topk",
    "num_draft_tokens",
    "draft_attention_backend",
)
_ALONE = {f"speculative_{name}": None for name in _SPECULATIVE}
_VERIFY = {"speculative_attention_mode": "decode"}
_EAGER = (False,)  # as far as these have been run
_REQUESTS = 3
_PACKED = ((f"{BACKEND}.forward_decode", "q = q.contiguous().view(-1, layer.tp_q_head_num, layer.head_dim)"),)
# A decode that hands its query on as a view, and a model that leaves it in the qkv buffer.
_VIEWS = (
    (f"{BACKEND}.forward_decode", "q = q.reshape(-1, layer.tp_q_head_num, layer.head_dim)"),
    (
        "sglang.srt.models.gemma4_causal.Gemma4Attention.forward",
        "q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)",
    ),
)


def drive(*, in_place: bool) -> Found:
    """in_place: queries are left in the qkv buffer. Damaged: query rows, over all layers, with a wrong answer."""
    from contextlib import nullcontext

    from g4diag.hooks.install import Hook, install
    from g4diag.stack.drive.serving import Geometry, Serving
    from g4diag.stack.drive.xqa import KERNEL, PackedRows, queries_in_place

    serving = Serving(Geometry(requests=_REQUESTS, live=_REQUESTS, prompt=200), 0)
    serving.runner.attn_backend.is_xqa_impl = True  # what it asks the GPU for
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
    kernel = PackedRows()
    slices = queries_in_place(serving.model) if in_place else nullcontext([None])
    with install("reading as XQA does", [Hook(KERNEL, "replace", kernel.decode)]), slices as left:
        serving.decode()
    return Found(
        checked=kernel.rows,
        damaged=kernel.wrong,
        evidence={
            "row after the first of its batch": kernel.later,
            "page looked up": kernel.entries,
            **({"query left in the qkv buffer": len(left)} if in_place else {}),
        },
        says=f"{kernel.wrong} of {kernel.rows} query rows answered wrongly, {kernel.later} follow a first one",
    )


SCENARIO = driven(
    drive,
    name="xqa-strided-query",
    symptom="on Hopper an accept length far below the triton backend's, less in larger batches; no draft: wrong output",
    upstream="sglang #31641, cured by #31667 (merged 2026-07-18) in 0.5.16; introduced by #22517",
    drives=(
        Drive(
            "upstream",
            "as released",
            arguments={"in_place": True},
            where=(Where(_VIEWS, "query_rows_are_packed", without=_PACKED),),
        ),
        Drive("cure", "q made contiguous", (_CURE,), arguments={"in_place": True}),
        Drive("packed", "as released, packed queries", twin=True, arguments={"in_place": False}),
        Drive("cure-packed", "q made contiguous, packed", (_CURE,), twin=True, arguments={"in_place": False}),
    ),
    server_states=(
        ServerState("upstream", "as released", (), "finished"),
        ServerState("cure", "q made contiguous", (_CURE,), "finished"),
        ServerState("triton", "as released, the triton backend", (), "finished", engine=_TRITON),
        ServerState("no-draft", "as released, the target alone", (), "wrong-output", _ALONE, graphs=_EAGER),
        ServerState(
            "no-draft-cure", "q made contiguous, the target alone", (_CURE,), "finished", _ALONE, graphs=_EAGER
        ),
        ServerState("verify", "q made contiguous, verify on XQA", (_CURE,), "assertion-error", _VERIFY, graphs=_EAGER),
    ),
    load=Load(eager_patches=("eager-draft-out-cache-loc",), pair="accepting"),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
