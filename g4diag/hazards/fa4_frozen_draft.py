"""fa4 for a frozen-KV draft: the frozen-KV SWA bug of trtllm_mha (sglang #26957), by reading only.

`FlashAttentionBackend.__init__` keeps `use_sliding_window_kv_pool` from the runner's own pool, with no exception for
a draft that reads the target's. 0.5.13 refuses fa4 for the target of a Gemma-4 but not for its draft; 0.5.23
accepts both.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """fa4 where the draft will run."""
    draft = deployment.flag("speculative-draft-attention-backend")
    used = (draft,) if draft else deployment.backends
    return "frozen-KV draft on fa4" if deployment.frozen_kv and "fa4" in used else None


HAZARD = Hazard(
    name="fa4-frozen-draft",
    severity="harmful",
    why="The draft's backend decides from its own 64-token pool that there is no SWA pool: wrong K/V, maybe a fault.",
    reference="g4diag, by reading 0.5.13 and 0.5.23; not run",
    releases=">=0.5.13",
    found=found,
    instead="--speculative-draft-attention-backend triton",
)
