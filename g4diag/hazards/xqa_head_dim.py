"""trtllm_mha decode with heads that XQA lacks.

On Hopper and SM120 FlashInfer's XQA runs trtllm_mha decode. Until FlashInfer 0.6.17 (sglang 0.5.18) it has no kernels
for the head dimension of 512 that real Gemma-4 checkpoints use in their global layers, and raises when it first
compiles one; 256 runs (H100). FlashInfer 0.6.18 (sglang 0.5.19) has them for one query a request, so for decode and
draft, and still refuses a verify there: so trtllm_mha cannot prefill for a draft to be verified either.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

_LARGEST, _LARGEST_FOR_ONE_QUERY = 256, 512


def found(deployment: Deployment) -> str | None:
    """A head dimension above XQA's largest where XQA would run."""
    verify = deployment.verifies_on_xqa
    if not verify and (deployment.backends[1] != "trtllm_mha" or not deployment.xqa_arch):
        return None
    text = deployment.text_config or {}
    largest = max(int(text.get(name) or 0) for name in ("head_dim", "global_head_dim"))
    several = deployment.is_in("<0.5.19") or verify
    found = f"head dimension {largest} with trtllm_mha {'verify' if verify else 'decode'} on {deployment.xqa_arch}"
    return found if largest > (_LARGEST if several else _LARGEST_FOR_ONE_QUERY) else None


HAZARD = Hazard(
    name="xqa-head-dim",
    severity="fatal",
    why="XQA, which runs trtllm_mha decode off SM100, has no kernel for so wide a head: ValueError when it compiles.",
    reference="g4diag, by reading flashinfer/jit/xqa.py 0.6.12 to 0.7.2; not run",
    releases=">=0.5.12",
    found=found,
    instead="--attention-backend triton",
)
