"""trtllm_mha for prefill on Hopper and SM120, until 0.5.18: upstream refuses it too, after loading configs.

Since 0.5.19 FlashInfer's FMHAv2 prefills there, and the command is a valid one. Where trtllm_mha does not run at all is
`trtllm-mha-arch`.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """A GPU where trtllm_mha decodes and does not prefill, and asked to."""
    prefill, _ = deployment.backends
    return f"trtllm_mha prefill on {deployment.xqa_arch}" if prefill == "trtllm_mha" and deployment.xqa_arch else None


HAZARD = Hazard(
    name="trtllm-mha-prefill-arch",
    severity="fatal",
    why="Until 0.5.18 the prefill kernels of trtllm_mha are Blackwell's (SM100) only: ServerArgs raises a ValueError.",
    reference="sglang 0.5.13, ServerArgs._handle_attention_backend_compatibility; FMHAv2 since 0.5.19",
    releases=">=0.5.12,<0.5.19",
    found=found,
    instead="--prefill-attention-backend triton --decode-attention-backend trtllm_mha"
    " --speculative-draft-attention-backend trtllm_mha",
    behind=("xqa-strided-query",),
)
