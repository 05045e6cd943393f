"""The fused FP8 write is handed the batch's full slots on a sliding layer, as before #19107."""

from __future__ import annotations

from g4diag.scenario.catalogue import drive_of
from g4diag.selftests.contract import Break

SELFTEST = Break(
    name="kv_slots_in_layer_space",
    how="The fused FP8 write takes the batch's full slots on sliding layers.",
    drive=lambda broken: drive_of("fp8-write-full-index")(),
    faults=("fused-write-full-index",),
)
