"""intel_amx for a frozen-KV draft: the frozen-KV SWA bug (sglang #26957) on a CPU's backend, alive in 0.5.23.

`IntelAMXAttnBackend.__init__` keeps `use_sliding_window_kv_pool` from the runner's own pool, with no exception for a
draft that reads the target's: its sliding layers read the target's SWA pool by full-space slots, past its end too. Run
through the real class with a reference in place of its compiled kernels (`g4diag repro frozen-draft-amx`); no AMX
server was run. Before 0.5.23 the backend translated no slot of any sliding layer, the target's neither (read).
"""

from __future__ import annotations

from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def found(deployment: Deployment) -> str | None:
    """intel_amx where the draft will run."""
    return "frozen-KV draft on intel_amx" if deployment.frozen_kv and "intel_amx" in deployment.draft_backends else None


HAZARD = Hazard(
    name="frozen-draft-amx",
    severity="harmful",
    why="The draft's sliding layers read the SWA pool by full-space slots, past its end too: wrong drafts.",
    reference="g4diag with the real backend class of 0.5.23 on a CPU; no upstream thread found",
    releases=">=0.5.23",
    found=found,
    cures=("frozen-draft-amx-swa-state",),
)
