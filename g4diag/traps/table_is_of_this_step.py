"""The lengths in a layer's metadata are those of the batch that is being run.

Under CUDA graphs the metadata lives in static buffers that each replay must fill anew; where that is skipped, or done
for another batch, the kernel runs on an earlier step's lengths and pages: old keys only, or pages given back since.
Python does not run inside a replay. There the tables' check on the device holds the lengths against the batch's own,
which it is told where the batch is handed to the graph's runner, before any static buffer is filled: a target's, a
frozen-KV draft's, those of EAGLE's drafting steps and draft extend, a draft's of several models from 0.5.15 on too, and
that of whole prefills. Graphs of other runners are judged against no batch. A prefill's graph in pieces holds no
attention, which runs eagerly between them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import AttentionRead, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import violation_in


def judge(read: AttentionRead) -> Iterator[Violation]:
    """One violation a read, at the first row whose length is not the batch's."""
    if read.batch_lens_B is None:
        return
    stale_B = read.seq_lens_B != read.batch_lens_B
    if not np.count_nonzero(stale_B):
        return
    row = int(np.flatnonzero(stale_B)[0])
    found, wanted = int(read.seq_lens_B[row]), int(read.batch_lens_B[row])
    summary = f"row {row} is read with {found} keys, the batch has {wanted}"
    counts = {"count": int(stale_B.sum()), "checked": len(stale_B)}
    yield violation_in(read, TRAP.name, Severity.ERROR, summary, row=row, **counts)


def needs(read: AttentionRead) -> str:
    """The batch's own lengths."""
    return "the batch's own lengths" if read.batch_lens_B is None else ""


TRAP = Trap(
    name="table_is_of_this_step",
    claim="The lengths a layer is given are this step's: the batch's own, this step's queries included.",
    without_it="A replay reads an earlier step's pages: new keys are missed, or pages read that others have by now.",
    cost="One compare a row on the host, and one more copy of B lengths; for a graph three small copies on the device "
    "before each replay.",
    runs=("eager", "captured", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    needs=needs,
    counts="rows of this read",
)
