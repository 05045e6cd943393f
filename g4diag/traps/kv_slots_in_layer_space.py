"""A layer's new K/V goes to this batch's slots, in the space of the layer's own pool.

A hybrid server's batch has full slots; a sliding layer writes to their SWA slots. A write that takes the full ones, as
the fused FP8 write did (#19107), puts K/V into the SWA slot of the same number: another request's, or past the pool.
What is read in its place is what was there. The mirror: a draft with a pool of its own whose slots are translated.
Judged by value where the slots are on the host, and in CUDA graphs on the device, against the pool's end too. In eager
steps on a GPU the batch's own tensor handed to a sliding layer is enough; a translation that came from elsewhere stays
unseen there. Values that still agree, as the mapping is the identity so far, are a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import KVSlots, Severity, Violation
from g4diag.traps.contract import Trap


def judge(write: KVSlots) -> Iterator[Violation]:
    """One violation a write: at its first wrong slot, or at none if only the tensor is the wrong one."""
    if not write.tokens:
        return
    expected_N, slots_N = write.expected_N(), write.slots_N
    known = expected_N is not None and slots_N is not None
    wrong_N = np.flatnonzero(slots_N != expected_N) if known else np.array([], dtype=np.int64)
    mislabelled = write.slots_space is not None and write.slots_space is not write.expected_space
    if not len(wrong_N) and not mislabelled:
        return
    first = int(wrong_N[0]) if len(wrong_N) else None
    handed = f"the batch's {write.slots_space}s" if write.slots_space else "slots"
    state = f"{len(wrong_N)} of {write.tokens} are wrong" if len(wrong_N) else "they still agree"
    yield Violation(
        trap=TRAP.name,
        severity=Severity.WARNING if known and not len(wrong_N) else Severity.ERROR,
        summary=(
            f"layer {write.layer_id} writes K/V of {write.tokens} tokens to {handed}, its {write.pool.name} pool has "
            f"{write.expected_space}s: {state if known else 'their values cannot be checked here'}"
        ),
        worker=write.worker,
        phase=write.phase,
        path=write.path,
        backend=write.backend,
        layer_id=write.layer_id,
        layer_kind=write.layer_kind,
        column=first,
        value=None if first is None or slots_N is None else int(slots_N[first]),
        expected=None if first is None or expected_N is None else int(expected_N[first]),
        bound=write.pool.num_pages * write.pool.page_size,
        value_space=write.slots_space,
        expected_space=write.expected_space,
        count=len(wrong_N) if known else write.tokens,
        checked=write.tokens,
    )


def needs(write: KVSlots) -> str:
    """The slots and those that belong there, or else the batch's own tensor."""
    if write.slots_space is not None or (write.slots_N is not None and write.expected_N() is not None):
        return ""
    return "the slots written and those of the batch"


TRAP = Trap(
    name="kv_slots_in_layer_space",
    claim="A layer's K/V is written to this batch's slots, in the index space of the layer's own pool.",
    without_it="K/V lands in other requests' slots and is read where it never went: broken answers, nothing faults.",
    cost="One Python call a K/V write, host attributes only; on the CPU one gather through the mapping; "
    "in CUDA graphs one launch for each pool and phase.",
    runs=("eager", "captured", "offline"),
    judges=KVSlots,
    judge=judge,
    group="kv-write",
    needs=needs,
)
