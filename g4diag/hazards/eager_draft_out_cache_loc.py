"""A frozen-KV draft that runs without decode graphs: alive in 0.5.13.

The v1 worker's draft() leaves the batch's old out_cache_loc on the forward batch, and the eager input copy fails as
soon as it is longer than the batch: on the first accepted draft token, or when a first prompt is decoded alone. As
long as no token is accepted the lengths agree. max_running_requests does not help: the slot has the batch's size.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

_DEFAULT_RUNNING = 48  # what ServerArgs sets for a frozen-KV draft


def found(deployment: Deployment) -> str | None:
    """No graphs at all, or graphs for fewer requests than may run."""
    if not deployment.frozen_kv or deployment.environ.get("SGLANG_EAGER_INPUT_NO_COPY", "") in ("1", "true", "True"):
        return None
    running = deployment.number("max-running-requests") or _DEFAULT_RUNNING
    if deployment.flag("disable-cuda-graph") is not None:
        eager = "--disable-cuda-graph"
    elif (largest := deployment.number("cuda-graph-max-bs")) is not None and largest < running:
        eager = f"--cuda-graph-max-bs {largest:.0f} below {running:.0f} running requests"
    else:
        return None
    return f"frozen-KV draft with {eager}: dies when a first draft token is accepted, or a first prompt decodes alone"


HAZARD = Hazard(
    name="eager-draft-out-cache-loc",
    severity="fatal",
    why="The eager draft copies a stale out_cache_loc longer than its batch: RuntimeError, size of tensor a and b.",
    reference="g4diag on an H100, 0.5.13 as released; cured in 0.5.23; relatives #28264, #28817, #29616",
    releases=">=0.5.13,<0.5.23",
    found=found,
    cures=("eager-draft-out-cache-loc",),
    instead="decode graphs on for every batch size, or SGLANG_EAGER_INPUT_NO_COPY=1",
)
