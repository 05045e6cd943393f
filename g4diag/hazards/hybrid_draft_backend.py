"""A frozen-KV draft whose backend is the hybrid wrapper: alive in every release from 0.5.13 to 0.5.23.

With prefill and decode backends that differ (on Hopper the only way to trtllm_mha decode until 0.5.18) and none named
for the draft, the draft gets a HybridAttnBackend. The frozen-KV views swap the pool on the wrapper; the child inside
keeps the draft's own 64-token pool. On an H100, 0.5.13 and 0.5.23 as released: server up, `IndexError: list index out
of range` in `_get_key_buffer` at the first decode, scheduler dead. Since 0.5.19 trtllm_mha prefills on Hopper and SM120
too, and one backend for both needs no wrapper. A draft of a tree has a triton backend of its own. Both ways out leave
the draft on trtllm_mha, which on Hopper and SM120 is XQA and has a bug of its own until 0.5.15: with the cure of that
on top the accept length is triton's (H100).
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """Frozen-KV, backends that differ, no backend for the draft."""
    prefill, decode = deployment.backends
    if not deployment.frozen_kv or deployment.flag("speculative-draft-attention-backend"):
        return None
    if (deployment.number("speculative-eagle-topk") or 1) > 1:
        return None
    if prefill is None or decode is None or prefill == decode:
        return None
    return f"frozen-KV draft, prefill {prefill}, decode {decode}, no --speculative-draft-attention-backend"


HAZARD = Hazard(
    name="hybrid-draft-backend",
    severity="fatal",
    why="The draft gets a hybrid wrapper whose child keeps the draft's own pool: IndexError at the first decode.",
    reference="g4diag on an H100, 0.5.13 and 0.5.23 as released; no upstream thread found",
    releases=">=0.5.13,<=0.5.23",
    found=found,
    cures=("hybrid-wrapper-pool-swap",),
    instead="--speculative-draft-attention-backend trtllm_mha",
    behind=("xqa-strided-query",),
)
