"""Every key in a sliding layer's window has an SWA page: no full page there is mapped to 0, the dummy page.

A full page maps to 0 once its SWA page was evicted, as it should be left of the window. In the window it means that
the K/V is gone while somebody still counts on it: a radix node that was kept as if alive (near sglang #22470 and
#34823), an eviction past the window's edge, a slot that was never mapped. The table is then the right translation of a
wrong state, so `page_table_in_layer_space` has nothing to say; an entry that differs from the translation is that
trap's business and not judged here. A full page of 0 is a warm-up's row, in which nothing was ever allocated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import AttentionRead, BoolArray, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import lacks_expected, violation_at


def judge(read: AttentionRead) -> Iterator[Violation]:
    """One violation a read, at its first entry in the window that is the dummy page, in row order."""
    if not read.expected_space.is_swa or read.full_page_table_BP is None:
        return
    zero_BP = read.page_table_BP == 0
    if not np.count_nonzero(zero_BP):
        return
    zero_BP &= read.live_BP()
    if not np.count_nonzero(zero_BP):
        return
    expected_BP = read.expected_BP()
    if expected_BP is None:
        return
    live_BP = read.live_BP() & (read.full_page_table_BP != 0) & ~_has_left_B(read)[:, None]
    dummy_BP = live_BP & zero_BP & (expected_BP == 0)
    if not dummy_BP.any():
        return
    row, column = (int(i) for i in np.argwhere(dummy_BP)[0])
    full, unit = int(read.full_page_table_BP[row, column]), read.expected_space.unit
    yield violation_at(
        read,
        TRAP.name,
        Severity.ERROR,
        f"full {unit} {full} is in the window and has no SWA {unit}: {unit} 0, the dummy, is read in its place",
        row=row,
        column=column,
        count=int(dummy_BP.sum()),
        checked=int(live_BP.sum()),
    )


def _has_left_B(read: AttentionRead) -> BoolArray:
    """bool[B]: nobody has the row that is read. A result may be processed between a batch's making and its forward, as
    with a grammar: a request that finished is in the batch still, its pages are not its any more, and what it reads is
    thrown away."""
    if (owners := read.row_owners) is None or len(owners.now_rids) != len(read.page_table_BP):
        return np.zeros(len(read.page_table_BP), dtype=np.bool_)
    return np.array([rid == "" for rid in owners.now_rids], dtype=np.bool_)


def needs(read: AttentionRead) -> str:
    """A sliding layer, and the pages that belong there."""
    return lacks_expected(read) if read.expected_space.is_swa else "a read of an SWA pool"


TRAP = Trap(
    name="page_in_window_is_mapped",
    claim="Every full page in a sliding layer's window is mapped to an SWA page.",
    without_it="Sliding layers read the dummy page in place of a prefix that was evicted: wrong answers, no fault.",
    cost="One compare over the live entries that the other table traps look at; eagerly that is a host "
    "copy, in CUDA graphs a part of the tables' own check on the device.",
    runs=("eager", "captured", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    needs=needs,
    counts="live table entries that stand for a full page",
    remembers=("request rows",),
)
