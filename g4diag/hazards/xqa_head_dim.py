"""trtllm_mha decode with heads that XQA lacks.

On Hopper and SM120 FlashInfer's XQA runs trtllm_mha decode. It has no kernels for the head dimension of 512 that
real Gemma-4 checkpoints use in their global layers, and raises when it first compiles one; 256 runs (H100).
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

_XQA_LARGEST = 256


def found(deployment: Deployment) -> str | None:
    """A head dimension above XQA's largest where XQA would run."""
    _, decode = deployment.backends
    if decode != "trtllm_mha" or not deployment.xqa_arch:
        return None
    text = deployment.text_config or {}
    heads = {int(text.get(name) or 0) for name in ("head_dim", "global_head_dim")}
    largest = max(heads)
    found = f"head dimension {largest} with trtllm_mha decode on {deployment.xqa_arch}"
    return found if largest > _XQA_LARGEST else None


HAZARD = Hazard(
    name="xqa-head-dim",
    severity="fatal",
    why="XQA, which runs trtllm_mha decode off SM100, refuses head dimensions above 256: ValueError, Invalid head_dim.",
    reference="g4diag, by reading flashinfer/jit/xqa.py 0.6.12; not run",
    releases=">=0.5.12",
    found=found,
    instead="--attention-backend triton",
)
