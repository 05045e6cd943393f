"""fa4 for a frozen-KV draft: the frozen-KV SWA bug (sglang #26957) on another backend, alive in 0.5.23.

`FlashAttentionBackend.__init__` keeps `use_sliding_window_kv_pool` from the runner's own pool, with no exception for
a draft that reads the target's: its sliding layers read the target's SWA pool by full-space page ids. On an H100,
0.5.23 as released, fa4 for all: 24 of 24 requests right, since verify protects them, and an accept length of 1.25
(eager) and 1.30 (graphs) where triton has 3.31. No fault and no log line. With the draft on triton it is 3.31.
0.5.13 to 0.5.21 refuse fa4 for the target of a Gemma-4 but not for its draft (read, not run there); 0.5.22 and 0.5.23
accept both.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """fa4 where the draft will run."""
    return "frozen-KV draft on fa4" if deployment.frozen_kv and "fa4" in deployment.draft_backends else None


HAZARD = Hazard(
    name="frozen-draft-fa",
    severity="harmful",
    why="The draft's sliding layers read the SWA pool by full-space page ids: nine in ten accepted tokens are lost.",
    reference="g4diag on an H100, 0.5.23 as released: accept length 1.25, and 3.31 on triton; no upstream thread found",
    releases=">=0.5.13",
    found=found,
    cures=("frozen-draft-fa-swa-state",),
    cured_in=">=0.5.22",
    instead="--speculative-draft-attention-backend triton",
)
