"""Every live page id handed to a layer lies inside that layer's own k_cache.

The frozen-KV SWA bug in its loud phase: a full-space table given to a sliding layer holds ids past the smaller SWA
pool, and the kernel reads past the end: Warp Illegal Address, reported at some later Python line. Only
entries the kernel may dereference count: columns past the row's last page and, on a sliding layer, left of
the window are stale by design and harmless.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import AttentionRead, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import violation_at


def judge(read: AttentionRead) -> Iterator[Violation]:
    """One violation a read, at its first bad entry in row order."""
    # One compare for both ends: below 0 is far above any bound, without a sign.
    outside_BP = read.page_table_BP.astype(np.uint64) >= read.pool.num_pages
    if not np.count_nonzero(outside_BP):
        return
    live_BP = read.live_BP()
    bad_BP = live_BP & outside_BP
    if not bad_BP.any():
        return
    row, column = (int(i) for i in np.argwhere(bad_BP)[0])
    value, unit = int(read.page_table_BP[row, column]), read.expected_space.unit
    yield violation_at(
        read,
        TRAP.name,
        Severity.ERROR,
        f"{unit} {value} is outside the {read.pool.name} pool of {read.pool.num_pages} {unit}s",
        row=row,
        column=column,
        count=int(bad_BP.sum()),
        checked=int(live_BP.sum()),
    )


TRAP = Trap(
    name="page_table_stays_in_pool",
    claim="Every live in-window page id handed to a layer is below the page count of that layer's own k_cache.",
    without_it="The attention kernel dereferences past the pool: CUDA illegal memory access at a later line.",
    cost="One pass over the live entries of the table; on the host it needs the table copied, so eager only.",
    runs=("eager", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
)
