"""The fused FP8 write is handed the batch's full slots on a sliding layer, as before #19107."""

from __future__ import annotations

from g4diag.selftests.contract import Break


def _drive(broken: bool) -> None:
    from repro.fp8_write_full_index import drive

    drive()


BREAK = Break(
    name="kv_slots_in_layer_space",
    how="The fused FP8 write takes the batch's full slots on sliding layers.",
    drive=_drive,
    faults=("fused-write-full-index",),
)
