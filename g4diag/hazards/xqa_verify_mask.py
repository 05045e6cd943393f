"""Target verify on trtllm_mha where XQA runs it: XQA wants a mask for several queries a row, and is given none.

With `--speculative-attention-mode decode` verify goes to the decode backend. On Hopper and SM120 that is FlashInfer's
XQA, and 0.5.13 hands it no mask: it died on an H100 at the first verify. No wheel to 0.5.20 hands it one; since 0.5.21
the backend has a causal mask of its own for it (`_xqa_spec_dec_mask`). By default verify goes to the prefill backend,
which trtllm_mha can be there since 0.5.19: in 0.5.19 and 0.5.20 `--attention-backend trtllm_mha` with a draft is enough
(read in the wheels, not run).
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """A speculative server whose verify runs on trtllm_mha, on a GPU where that is XQA."""
    return f"verify on trtllm_mha on {deployment.xqa_arch}" if deployment.verifies_on_xqa else None


HAZARD = Hazard(
    name="xqa-verify-mask",
    severity="fatal",
    why="AssertionError: Mask is required for speculative decoding, at the first verify: XQA is handed no mask.",
    reference="g4diag on an H100, 0.5.13; the wheels to 0.5.20; sgl-project/sglang#32269 adds one",
    releases=">=0.5.13,<0.5.21",
    found=found,
    instead="--speculative-attention-mode prefill --prefill-attention-backend triton",
    behind=("hybrid-draft-backend", "xqa-strided-query"),
)
