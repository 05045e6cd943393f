"""The request rows that a batch's tables are read from are those of the batch's own requests.

A table is made of req_to_token's rows, and the traps of the tables ask the same rows what belongs there: a batch that
names another's row is read rightly from the wrong request. It comes about where rows are taken down once and used
later: a draft's batch that was prepared before its request left, and whose row another has by then, or indices that
were put in another order than the requests. So each row is counted when it is given to a request. Who has which, and
how often it was given, is taken when the batch is built and compared when its table is read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import AttentionRead, BoolArray, RowOwners, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import violation_in


def judge(read: AttentionRead) -> Iterator[Violation]:
    """One violation a read, at the first row that is not its request's."""
    owners, rows_B = read.row_owners, read.req_rows_B
    if owners is None or rows_B is None:
        return
    # A few numbers: Python's lists are quicker than numpy's calls.
    same = owners.rows_B.tolist() == rows_B.tolist() and owners.taken_B.tolist() == owners.now_taken_B.tolist()
    if same and "" not in owners.now_rids:
        return
    anothers_B, again_B = _anothers_B(owners, rows_B), given_away_B(owners, rows_B)
    wrong_B = anothers_B | again_B
    if not wrong_B.any():
        return
    row = int(np.flatnonzero(wrong_B)[0])
    place = f"row {row} of the batch is {owners.rids[row]}'s, and request row {int(rows_B[row])} is read for it"
    if anothers_B[row]:
        told = f"which {_who(owners.now_rids[row])}; it had row {int(owners.rows_B[row])} when the batch was built"
    else:
        told = f"which was given away since the batch was built and {_who(owners.now_rids[row])}"
    found = violation_in(
        read,
        TRAP.name,
        Severity.ERROR,
        f"{place}, {told}",
        row=row,
        count=int(wrong_B.sum()),
        checked=int((owners.rows_B >= 0).sum()),
    )
    yield found


def _anothers_B(owners: RowOwners, rows_B: np.ndarray) -> BoolArray:
    """bool[B]: the row that is read is not the one that the request had."""
    found: BoolArray = (owners.rows_B >= 0) & (owners.rows_B != rows_B)
    return found


def given_away_B(owners: RowOwners, rows_B: np.ndarray) -> BoolArray:
    """bool[B]: the row was the request's, and has been given to somebody since, or is nobody's."""
    known = (owners.rows_B == rows_B) & (owners.taken_B >= 0) & (owners.now_taken_B >= 0)
    left = np.array([rid == "" for rid in owners.now_rids], dtype=np.bool_)
    found: BoolArray = known & ((owners.taken_B != owners.now_taken_B) | left)
    return found


def _who(rid: str) -> str:
    return "is nobody's now" if not rid else "is another's now" if rid == "?" else f"is {rid}'s now"


def needs(read: AttentionRead) -> str:
    """Whose rows they were when the batch was built."""
    owners = read.row_owners
    known = owners is not None and read.req_rows_B is not None and np.count_nonzero(owners.rows_B >= 0)
    return "" if known else "the request rows that the batch was built with"


TRAP = Trap(
    name="request_row_is_of_its_request",
    claim="Each row of a batch reads the request row that its request had when the batch was built and has still.",
    without_it="A request is answered from another's K/V: wrong answers, and nothing faults.",
    cost="Host attributes a batch and an allocation of rows; a compare of B numbers a read; for a "
    "graph the same before each replay, and on the device with the lengths.",
    runs=("eager", "captured", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    needs=needs,
    counts="rows of this read",
    remembers=("request rows",),
)
