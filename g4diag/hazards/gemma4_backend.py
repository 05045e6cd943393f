"""An attention backend that the release refuses for a Gemma-4: ServerArgs raises, after loading configs.

Each release has a list of what it takes for prefill and decode. The draft's backend is not held against it. Read in the
wheels of 0.5.13 to 0.5.23; 0.5.12.post1 has no list.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

# Backend -> the releases that take it.
_TAKEN = {
    **{"trtllm_mha": ">=0.5.13", "triton": ">=0.5.13", "intel_xpu": ">=0.5.13"},
    **{"ascend": ">=0.5.14", "intel_amx": ">=0.5.18", "aiter": ">=0.5.20", "fa4": ">=0.5.22"},
}


def found(deployment: Deployment) -> str | None:
    """A Gemma-4 and a backend that is not on the release's list."""
    if not deployment.is_gemma4:
        return None
    asked = (name for name in deployment.backends if name is not None)
    bad = next((name for name in asked if not deployment.is_in(_TAKEN.get(name, "<0.5.13"))), None)
    return None if bad is None else f"{bad} for a Gemma-4, which sglang {deployment.sglang} does not take there"


HAZARD = Hazard(
    name="gemma4-backend",
    severity="fatal",
    why="The release has a list of attention backends for Gemma-4, and this one is not on it: AssertionError.",
    reference="sglang 0.5.13 to 0.5.23, the model's part of ServerArgs; fa4 since 0.5.22",
    releases=">=0.5.13,<=0.5.23",
    found=found,
    instead="--attention-backend triton",
)
