"""The table handed to a layer has a row for each request and a column for each page the kernel will look up.

The kernel takes its lengths from another tensor than the table: with a table sized before the draft tokens were
counted, or for a smaller batch, it reads the next row's ids or past the buffer, and whatever it finds is used as a
page. Lengths here include this step's queries.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import AttentionRead, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import violation_in


def judge(read: AttentionRead) -> Iterator[Violation]:
    """One violation a read: rows missing, else the first row that needs more columns than there are."""
    rows, columns = read.page_table_BP.shape
    needed_B = -(-read.seq_lens_B.astype(np.int64) // read.pool.page_size)
    if read.first_B is not None:
        needed_B -= read.starts_B()
    short_B = needed_B > columns
    if read.batch_rows is not None and read.batch_rows > rows:
        summary, row = f"a table of {rows} rows for {read.batch_rows} requests", rows
        counts = {"count": read.batch_rows - rows, "checked": read.batch_rows}
    elif np.count_nonzero(short_B):
        row = int(np.flatnonzero(short_B)[0])
        value = int(read.seq_lens_B[row])
        counts = {"count": int(short_B.sum()), "checked": rows}
        needed = f"{int(needed_B[row])} {read.expected_space.unit}s"
        summary = f"row {row} of {value} tokens needs {needed}, the table has {columns} columns"
    else:
        return
    yield violation_in(read, TRAP.name, Severity.ERROR, summary, row=row, **counts)


TRAP = Trap(
    name="table_is_wide_enough",
    claim="The page table has a row for each request and a column for each page of its keys, this step's included.",
    without_it="The kernel looks pages up past the row's end: another request's ids, or whatever lies there.",
    cost="One compare a row on the host, over lengths that the other table traps copy anyway.",
    runs=("eager", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    counts="rows of this batch",
)
