"""The mirror bug of 0.5.12 and 0.5.12.post1: trtllm_mha asks the shared allocator, whoever the runner is.

An EAGLE draft, which owns a full-only pool, has its page tables translated into SWA ids that its pool knows nothing
of: in range mostly, so only accept length drops. Frozen-KV drafts are served rightly by that rule.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """A draft with its own pool on trtllm_mha."""
    algorithm = (deployment.flag("speculative-algorithm") or "").upper()
    if (
        algorithm not in ("EAGLE", "EAGLE3", "NEXTN")
        or deployment.frozen_kv is not False
        or "trtllm_mha" not in deployment.draft_backends
    ):
        return None
    return f"{algorithm} draft with its own pool on trtllm_mha, sglang {deployment.sglang}"


HAZARD = Hazard(
    name="allocator-rule-draft",
    severity="harmful",
    why="A draft with its own full-only pool has its page tables translated into SWA ids: accept length drops.",
    reference="sgl-project/sglang#18970; cured by #25103, and by #27491 for good",
    releases=">=0.5.9,<0.5.13",
    found=found,
    instead="sglang 0.5.13",
)
