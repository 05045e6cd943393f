"""Target verify on trtllm_mha where XQA runs it: XQA wants a mask for several queries a row, and is given none.

With `--speculative-attention-mode decode` verify goes to the decode backend. On Hopper and SM120 that is FlashInfer's
XQA, and 0.5.13 hands it no mask: it died on an H100 at the first verify. By reading 0.5.16 hands it none either, and
0.5.23 does.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """A speculative server whose verify runs on trtllm_mha, on a GPU where that is XQA."""
    if not deployment.xqa_arch or deployment.flag("speculative-algorithm") is None:
        return None
    _, decode = deployment.backends
    if decode == "trtllm_mha" and deployment.flag("speculative-attention-mode") == "decode":
        return f"verify on trtllm_mha on {deployment.xqa_arch}"
    return None


HAZARD = Hazard(
    name="xqa-verify-mask",
    severity="fatal",
    why="AssertionError: Mask is required for speculative decoding, at the first verify: XQA is handed no mask.",
    reference="g4diag on an H100, 0.5.13; sgl-project/sglang#32269 (open) adds one",
    releases=">=0.5.13,<=0.5.16",
    found=found,
    instead="--speculative-attention-mode prefill (the default) with --prefill-attention-backend triton",
)
