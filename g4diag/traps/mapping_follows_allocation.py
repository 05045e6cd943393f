"""The full-to-SWA mapping says what the two allocators did: written for what was handed out, 0 for what was freed.

Every SWA page table, and every write to a sliding layer, goes through it. An entry that was not written sends K/V to
the dummy page; one that outlived its free lets the next free give back a page that another request has by then (near
sglang #27779). Judged for the very slots of a call: other slots of a freed page may hold what a speculative step left
there, which is rewritten before anyone asks. At the end of a free group it is judged for the slots that were mapped
anew inside the group: what a free that waited looks up only there is no longer what it was asked for (#36646).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import IndexSpace, MappingUpdate, Severity, Violation
from g4diag.traps.contract import Trap


def judge(update: MappingUpdate) -> Iterator[Violation]:
    """One violation a call, at its first slot that maps elsewhere."""
    bad_N = update.mapped_N != update.swa_slots_N
    if not np.count_nonzero(bad_N):
        return
    at = int(np.flatnonzero(bad_N)[0])
    slot, found, wanted = (int(ids[at]) for ids in (update.full_slots_N, update.mapped_N, update.swa_slots_N))
    said, should = (f"SWA slot {slot}" if slot else "nothing" for slot in (found, wanted))
    yield Violation(
        trap=TRAP.name,
        severity=Severity.ERROR,
        summary=f"after {update.call} full slot {slot} maps to {said}, not to {should}",
        phase=update.call,
        column=at,
        value=found,
        expected=wanted,
        value_space=IndexSpace.SWA_SLOT,
        expected_space=IndexSpace.SWA_SLOT,
        count=int(bad_N.sum()),
        checked=len(bad_N),
    )


TRAP = Trap(
    name="mapping_follows_allocation",
    claim="Each full slot maps to the SWA slot handed out with it, and to none once either is freed.",
    without_it="Sliding layers write to the dummy page or read another request's, and a later free takes a live page.",
    cost="One gather on the device and one compare; live, a copy of the call's slots, judged when it has arrived.",
    runs=("eager", "offline"),
    judges=MappingUpdate,
    judge=judge,
    group="allocator",
    counts="slots of this call",
)
