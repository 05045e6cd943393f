"""A draft's own pool has the tokens that the target had before its memory was split into full and SWA (#17630).

PR: sglang #17630 (opened 2026-01-23, merged), gpt-oss with EAGLE. The split makes the full pool larger than the first
estimate, in which every layer is full. An EAGLE draft shares the target's allocator, so its own pool needs every slot
that the allocator may hand out; it had the estimate's. A server with room to spare never notices. Under load the
draft's K/V is written, then read, out of bounds: an index assertion, or an illegal access in the attention kernel.

Size both pools by sglang's own code, fill the allocator with others' pages, decode once and build the draft's table:
with the fault put back and as released; then on an almost empty server, where the fault does no harm.
"""

from __future__ import annotations

import sys

from g4diag.scenario import Drive, Found
from g4diag.scenario.driving import driven

_FAULT = ("draft-pool-before-swa-adjustment",)
_TOKENS = 100


def drive(*, others: int) -> Found:
    """others: tokens of the full pool that other requests have. Damaged: slots of one request past the draft's pool."""
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    from g4diag.stack.drive.backends import SMALL, give_pools, split_sizes
    from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
    from g4diag.stack.drive.request_state import request_row
    from g4diag.stack.drive.serving import Serving

    serving = Serving(SMALL, 0, algorithm="EAGLE")
    draft = OwnPoolDraft(serving)
    give_pools(draft.runner, split_sizes(serving))
    backend = TRTLLMHAAttnBackend(draft.runner)
    serving.followers.clear()  # its K/V would be written out of bounds first
    if others:
        serving.allocator.full_attn_allocator.alloc(others)
    serving.admit("r0", list(range(_TOKENS)))
    serving.decode()
    draft.after_decode(serving.running, [])
    batch = draft._forward_batch()
    backend.init_forward_metadata(batch)
    backend._get_layer_page_table(draft.model.model.layers[1].self_attn.attn, batch)
    slots = serving.request_pool.req_to_token[request_row(serving.running.reqs[0]), : _TOKENS + 1]
    held = len(draft.runner.token_to_kv_pool.k_buffer[0])
    return Found(
        checked=len(slots),
        damaged=int((slots >= held).sum()),
        evidence={"slot of the request": int((slots > 0).sum())},
        says=f"slots up to {int(slots.max())} of {SMALL.full_tokens}, the draft's pool has {held}",
    )


SCENARIO = driven(
    drive,
    name="draft-pool-too-small",
    symptom="index assertion or illegal access in an EAGLE draft on a hybrid SWA model, only when the full pool fills",
    upstream="sglang #17630 (opened 2026-01-23, merged)",
    drives=(
        Drive("upstream", "as released", arguments={"others": 1600}),
        Drive("faulty", "tokens from before the split", _FAULT, "page_table_stays_in_pool", arguments={"others": 1600}),
        Drive("hidden", "the same, a server that is almost empty", _FAULT, arguments={"others": 0}),
        Drive("empty", "as released, a server that is almost empty", twin=True, arguments={"others": 0}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
