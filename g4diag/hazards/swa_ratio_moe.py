"""The default SWA ratio of 0.8 on a MoE Gemma-4: most of the KV memory goes to a pool that is never full.

A sliding layer needs its window and no more, and of a MoE Gemma-4's 30 layers 25 slide. The figures of the fork
pyc96/sglang on a 180 GB B200, 26B: 0.8 gives 593 956 full tokens, 0.15 gives 2 138 243.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """A MoE Gemma-4 and nobody chose a ratio; 0.8 typed by the user is the user's."""
    if not (deployment.is_gemma4 and deployment.is_moe) or deployment.flag("swa-full-tokens-ratio") is not None:
        return None
    return "MoE Gemma-4 with the default --swa-full-tokens-ratio of 0.8"


HAZARD = Hazard(
    name="swa-ratio-moe",
    severity="harmful",
    why="The SWA pool takes most of the KV memory and stays empty: about a quarter of the full tokens possible.",
    reference="fork pyc96/sglang; missing upstream in every release from 0.5.12 to 0.5.23",
    releases=">=0.5.12",
    found=found,
    cures=("swa-ratio-moe",),
    instead="--swa-full-tokens-ratio 0.15",
)
