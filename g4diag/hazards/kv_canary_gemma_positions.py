"""--kv-canary with a Gemma whose model adds one to the batch's positions in place.

The canary notes each token's position before the layers and again after them. In between Gemma-4's multimodal model,
and those of Gemma-3 and 3n, add one to the very tensor: what is noted after them is one too high, and a later look at
it a violation. On an H200 with 0.5.23, no draft: 35 699 154 violations in 71 906 520 looks; those that were kept of
its log are `verify_position` of a TAIL, one more than the slot's place in its page. Gemma-4's addition leaves the
batch's tensor alone under SGLANG_GEMMA_OUT_OF_PLACE_POSITION_MUTATION, which upstream's own tests of the canary set:
beside each other on an H200, 29 108 786 violations in 58 686 104 looks without it, and none in as many with it.
Releases: by the text of the wheels.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

_SWITCH = "SGLANG_GEMMA_OUT_OF_PLACE_POSITION_MUTATION"
_SWITCHED = ("Gemma4ForConditionalGeneration", "Gemma4UnifiedForConditionalGeneration")
_ALWAYS = ("Gemma3ForConditionalGeneration", "Gemma3nForConditionalGeneration")


def found(deployment: Deployment) -> str | None:
    """The canary is asked for, of such a model, and nothing keeps the positions apart."""
    mode, names = deployment.flag("kv-canary"), set((deployment.target or {}).get("architectures") or ())
    if mode in (None, "none"):
        return None
    if always := names & set(_ALWAYS):
        return f"--kv-canary {mode} with {min(always)}"
    is_set = deployment.environ.get(_SWITCH, "").lower() in ("1", "true", "yes", "y")
    return None if is_set or not names & set(_SWITCHED) else f"--kv-canary {mode} without {_SWITCH}=1"


HAZARD = Hazard(
    name="kv-canary-gemma-positions",
    severity="harmful",
    why="The canary reports half of its looks as violations that are none: the model has added one to the positions.",
    reference="g4diag on an H200, 0.5.23; the same text in the wheels from 0.5.13 on, not run there",
    releases=">=0.5.13,<=0.5.23",
    found=found,
    instead=f"{_SWITCH}=1 for Gemma-4, with which 0.5.23's canary reported none; g4diag serve --traps all",
)
