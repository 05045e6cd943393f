"""The frozen-KV SWA bug (sglang #26957): source builds of 2026-05-15 .. 2026-06-02, and forks of them.

trtllm_mha resolves its SWA state from the runner's own pool (#25103); a frozen-KV draft owns a plain one, so its
sliding layers are handed full-space page ids. No release on PyPI has it; a development version between 0.5.12.post1
and 0.5.13 may. `g4diag patches` reads the source and so knows for certain.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """A frozen-KV draft on trtllm_mha."""
    if not deployment.frozen_kv or "trtllm_mha" not in deployment.draft_backends:
        return None
    return f"frozen-KV draft on trtllm_mha, sglang {deployment.sglang} from between #25103 and #27491"


HAZARD = Hazard(
    name="own-pool-rule-draft",
    severity="fatal",
    why="Sliding layers of the draft read full-space page ids: wrong K/V first, then an illegal memory access.",
    reference="sgl-project/sglang#25103 (2026-05-15), cured by #26966 and #27491",
    releases=">0.5.12.post1,<0.5.13rc0",
    found=found,
    cures=("patch-e",),
    instead="sglang 0.5.13",
)
