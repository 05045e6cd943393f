"""A frozen-KV draft that runs without decode graphs: alive in 0.5.13, and by its text in 0.5.14.

The v1 worker's draft() leaves the batch's old out_cache_loc on the forward batch, and the eager input copy fails as
soon as it is longer than the batch: on the first accepted draft token, or when a first prompt is decoded alone. As
long as no token is accepted the lengths agree. max_running_requests does not help: the slot has the batch's size.
The v2 worker of 0.5.14 leaves there what the last verify wrote, before the same copy. Since 0.5.15 draft() resets it.
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment

# 0.5.14 says for which phase, and takes the older names still.
_OFF = ("disable-cuda-graph", "disable-decode-cuda-graph")
_LIMITS = ("cuda-graph-max-bs-decode", "cuda-graph-max-bs")
_DEFAULT_RUNNING = 48  # what ServerArgs sets for a frozen-KV draft


def found(deployment: Deployment) -> str | None:
    """No graphs at all, or graphs for fewer requests than may run."""
    if not deployment.frozen_kv or deployment.environ.get("SGLANG_EAGER_INPUT_NO_COPY", "") in ("1", "true", "True"):
        return None
    running = deployment.number("max-running-requests") or _DEFAULT_RUNNING
    off = next((name for name in _OFF if deployment.flag(name) is not None), "")
    limit = next((name for name in _LIMITS if deployment.number(name) is not None), "")
    if off:
        eager = f"--{off}"
    elif limit and (largest := deployment.number(limit) or 0) < running:
        eager = f"--{limit} {largest:.0f} below {running:.0f} running requests"
    else:
        return None
    return f"frozen-KV draft with {eager}: dies when a first draft token is accepted, or a first prompt decodes alone"


HAZARD = Hazard(
    name="eager-draft-out-cache-loc",
    severity="fatal",
    why="The eager draft copies a stale out_cache_loc longer than its batch: RuntimeError, size of tensor a and b.",
    reference="g4diag on an H100, 0.5.13 as released; cured in 0.5.15; relatives #28264, #28817, #29616",
    releases=">=0.5.13,<0.5.15",
    found=found,
    cures=("eager-draft-out-cache-loc",),
    instead="decode graphs on for every batch size, or SGLANG_EAGER_INPUT_NO_COPY=1",
)
