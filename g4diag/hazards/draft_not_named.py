"""A Gemma-4 told to draft, and no draft named.

sglang takes NEXTN or EAGLE for frozen-KV MTP where the model at --speculative-draft-model-path is a Gemma-4 assistant,
and fills in a missing path only for models that carry draft layers, which Gemma-4 does not. Read in 0.5.13 and 0.5.23;
not run.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """An algorithm with a draft model, on a Gemma-4, and no path of one."""
    if not (deployment.lacks_draft and deployment.is_gemma4):
        return None
    algorithm = deployment.flag("speculative-algorithm")
    return f"--speculative-algorithm {algorithm} on a Gemma-4 without --speculative-draft-model-path"


HAZARD = Hazard(
    name="draft-not-named",
    severity="harmful",
    why="A Gemma-4 has no draft layers of its own: sglang drafts by frozen-KV MTP only where its assistant is named.",
    reference="sglang 0.5.13 and 0.5.23, speculative_hook.py, read",
    releases=">=0.5.13",
    found=found,
    instead="--speculative-draft-model-path with the Gemma-4 assistant",
)
