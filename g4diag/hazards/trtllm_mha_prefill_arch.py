"""trtllm_mha for prefill off Blackwell: upstream refuses it too, after loading configs and seconds later."""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """A GPU that is not SM100 and trtllm_mha prefill."""
    prefill, _ = deployment.backends
    if prefill != "trtllm_mha" or deployment.capability is None or deployment.capability[0] == 10:
        return None
    return "trtllm_mha prefill on sm{}{}".format(*deployment.capability)


HAZARD = Hazard(
    name="trtllm-mha-prefill-arch",
    severity="fatal",
    why="The prefill kernels of trtllm_mha are Blackwell's (SM100) only: ServerArgs raises a ValueError.",
    reference="sglang 0.5.13, ServerArgs._handle_attention_backend_compatibility",
    releases=">=0.5.12",
    found=found,
    instead="--prefill-attention-backend triton --decode-attention-backend trtllm_mha"
    " --speculative-draft-attention-backend trtllm_mha",
    behind=("xqa-strided-query",),
)
