"""trtllm_mha on a GPU that has no kernels for it: upstream refuses it too, after loading configs and seconds later.

It decodes on SM90, SM100 and SM120, and prefills on SM100, since 0.5.19 on all three (`trtllm-mha-prefill-arch`).
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

_MAJORS = (9, 10, 12)


def found(deployment: Deployment) -> str | None:
    """trtllm_mha anywhere, on another GPU."""
    asked = (*deployment.backends, deployment.flag("speculative-draft-attention-backend"))
    if "trtllm_mha" not in asked or deployment.capability is None or deployment.capability[0] in _MAJORS:
        return None
    return "trtllm_mha on sm{}{}".format(*deployment.capability)


HAZARD = Hazard(
    name="trtllm-mha-arch",
    severity="fatal",
    why="trtllm_mha has kernels for SM90, SM100 and SM120 only: ServerArgs raises a ValueError.",
    reference="sglang 0.5.13 to 0.5.23, the check of attention backends in ServerArgs",
    releases=">=0.5.12",
    found=found,
    instead="--attention-backend triton",
)
