"""Gemma-4 with trtllm_mha where XQA runs it: rows of a query are read from the wrong place.

On Hopper and SM120 trtllm_mha decode is FlashInfer's XQA, which takes query rows for packed; 0.5.12 to 0.5.15.post1
hand it a slice of Gemma-4's qkv buffer. With a draft on it the accept length falls as the batch grows (1.678 where
triton and the cure have 3.295, H100). A target that decodes on it without a draft gives wrong output: 17.7 % of the
tokens were right there, with the cure all. A verify on it is handed the same slice until 0.5.18 (read in the wheels).
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """Whatever of a Gemma-4 runs on trtllm_mha, on a GPU where that is XQA."""
    if not deployment.is_gemma4 or not deployment.xqa_arch:
        return None
    _, decode = deployment.backends
    if decode == "trtllm_mha" and deployment.verifies_on_decode:
        return f"verify on trtllm_mha on {deployment.xqa_arch}: wrong output in batches"
    if not deployment.is_in("<0.5.16"):
        return None
    draft = deployment.flag("speculative-draft-attention-backend") or decode
    speculative = deployment.flag("speculative-algorithm") is not None
    if decode == "trtllm_mha" and not speculative:
        return f"decode on trtllm_mha on {deployment.xqa_arch}, no draft: wrong output in batches"
    if speculative and draft == "trtllm_mha":
        return f"draft on trtllm_mha on {deployment.xqa_arch}: accept length falls as the batch grows"
    return None


HAZARD = Hazard(
    name="xqa-strided-query",
    severity="harmful",
    why="XQA takes query rows for packed and is handed a slice of the qkv buffer: all rows but the first are wrong.",
    reference="g4diag on an H100, 0.5.13; sgl-project/sglang#31641, cured by #31667 in 0.5.16, a verify in 0.5.19",
    releases=">=0.5.12,<0.5.19",
    found=found,
    cures=("xqa-strided-query",),
    instead="the triton backend for what decodes or drafts, or sglang 0.5.19",
)
