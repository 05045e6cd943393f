"""The new K/V of a sliding layer goes to the SWA slots that were handed out with the batch's full slots.

`kv_slots_in_layer_space` holds the slots of a write against the mapping of now. Where the mapping itself is wrong,
swapped or written over since the slots were handed out, the write follows it into another request's page, or into the
dummy page where the entry was lost, and that trap agrees. This one asks what the allocators said when they handed the
slots out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import KVSlots, Severity, Violation
from g4diag.traps.contract import Trap


def judge(write: KVSlots) -> Iterator[Violation]:
    """One violation a write, at its first slot that maps elsewhere."""
    mapped_N, handed_N, full_N = write.expected_N(), write.handed_out_N, write.full_slots_N
    if not write.expected_space.is_swa or mapped_N is None or handed_N is None or full_N is None:
        return
    wrong_N = np.flatnonzero(mapped_N != handed_N)
    if not len(wrong_N):
        return
    at = int(wrong_N[0])
    found, own = (f"SWA slot {slot}" if slot > 0 else "nothing" for slot in (int(mapped_N[at]), int(handed_N[at])))
    yield Violation(
        trap=TRAP.name,
        severity=Severity.ERROR,
        summary=f"layer {write.layer_id} writes K/V of {write.tokens} tokens, the first wrong one at token {at}: full "
        f"slot {int(full_N[at])} maps to {found}, and {own} was handed out with it",
        worker=write.worker,
        phase=write.phase,
        path=write.path,
        backend=write.backend,
        layer_id=write.layer_id,
        layer_kind=write.layer_kind,
        column=at,
        expected_space=write.expected_space,
        count=len(wrong_N),
        checked=write.tokens,
    )


def needs(write: KVSlots) -> str:
    """A sliding layer, the batch's slots, the mapping, and what was handed out."""
    if not write.expected_space.is_swa:
        return "a write to an SWA pool"
    if write.expected_N() is None:
        return "the batch's slots and the full-to-SWA mapping"
    return "the slots that were handed out" if write.handed_out_N is None else ""


TRAP = Trap(
    name="kv_slots_are_those_handed_out",
    claim="The K/V of a sliding layer is written to the SWA slots that were handed out with the batch's full slots.",
    without_it="K/V is written over another request's, or to the dummy page, by a mapping that was changed since.",
    cost="As `mapping_is_what_was_handed_out` at the allocator; one gather a write where the slots are on the host, "
    "and in CUDA graphs on the device.",
    runs=("eager", "captured", "offline"),
    judges=KVSlots,
    judge=judge,
    group="kv-write",
    needs=needs,
    remembers=("mapping",),
)
