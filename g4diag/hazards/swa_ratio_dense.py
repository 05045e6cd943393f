"""A small SWA ratio on a dense Gemma-4: the SWA pool starves.

The figures of the fork pyc96/sglang, 31B on a B200: 0.15 leaves 71 808 SWA tokens and starves; 0.8 gives 106 368.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

_LOW = 0.5


def found(deployment: Deployment) -> str | None:
    """A dense Gemma-4 and a ratio meant for a MoE."""
    ratio = deployment.number("swa-full-tokens-ratio")
    if not deployment.is_gemma4 or deployment.is_moe is not False or ratio is None or ratio >= _LOW:
        return None
    return f"dense Gemma-4 with --swa-full-tokens-ratio {ratio:g}"


HAZARD = Hazard(
    name="swa-ratio-dense",
    severity="harmful",
    why="The SWA pool runs out long before the full one: requests are retracted and throughput falls.",
    reference="the fork pyc96/sglang, 31B on a B200",
    releases=">=0.5.12",
    found=found,
    instead="no --swa-full-tokens-ratio, which is 0.8",
)
