"""--kv-canary with a frozen-KV draft: the canary does not know that the draft reads the target's KV.

On an H100 with 0.5.13, on a healthy server: a TAIL_K_SWA violation is reported, and then the server stops on the
canary's own assertion, `pre_ops_maybe_inside_graph called without active SingleForwardManager`. By the text of the
wheels to 0.5.23 the frozen-KV worker still enters no such manager around its draft, and the assertion is still there.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """Both asked for."""
    mode = deployment.flag("kv-canary")
    return f"--kv-canary {mode} with a frozen-KV draft" if mode not in (None, "none") and deployment.frozen_kv else None


HAZARD = Hazard(
    name="kv-canary-frozen-draft",
    severity="fatal",
    why="The canary reports a violation that is none, and then stops the server on an assertion of its own.",
    reference="g4diag on an H100, 0.5.13 as released; the same text in the wheels to 0.5.23, not run there",
    releases=">=0.5.13,<=0.5.23",
    found=found,
    instead="no --kv-canary; g4diag serve --traps all",
)
