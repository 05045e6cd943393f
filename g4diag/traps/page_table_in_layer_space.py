"""The table handed to a layer is in the index space of that layer's own pool.

The silent phase of the frozen-KV SWA bug: full-space ids that happen to be below the SWA page count are read without
a fault and give another request's K/V, so only accept length suffers. The mirror bug (sglang #25103) is the
same claim broken the other way: a draft with its own full-only pool handed a table translated to SWA ids.
Judged by value where the truth is known (req_to_token through the mapping), and by the table's label where it
is not. A wrong label whose values still agree (the mapping is the identity so far) is a warning: armed, not
yet fired.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import AttentionRead, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import lacks_expected, violation_at


def judge(read: AttentionRead) -> Iterator[Violation]:
    """One violation a read: at the first wrong entry, or at the first live one if only the label is wrong."""
    mislabelled = read.table_space is not None and read.table_space is not read.expected_space
    expected_BP = read.expected_BP()
    wrong_BP = None if expected_BP is None else read.page_table_BP != expected_BP
    if not mislabelled and (wrong_BP is None or not np.count_nonzero(wrong_BP)):
        return
    live_BP = read.live_BP()
    if not np.count_nonzero(live_BP):
        return
    wrong_BP = np.zeros_like(live_BP) if wrong_BP is None else live_BP & wrong_BP
    proven = bool(np.count_nonzero(wrong_BP))
    if not proven and not mislabelled:
        return
    at_BP = wrong_BP if proven else live_BP
    row, column = (int(i) for i in np.argwhere(at_BP)[0])
    handed = f"a {read.table_space} table" if read.table_space else "a table of unknown space"
    if proven and read.table_space is read.expected_space:
        handed += ", rightly labelled,"
    state = (
        f"{int(wrong_BP.sum())} live entries are not the {read.expected_space.unit}s of these requests"
        if proven
        else "its values cannot be checked here"
        if expected_BP is None
        else "its values still agree"
    )
    yield violation_at(
        read,
        TRAP.name,
        Severity.ERROR if proven or expected_BP is None else Severity.WARNING,
        f"{handed} was handed to a {read.layer_kind} layer that is addressed in {read.expected_space}s: {state}",
        row=row,
        column=column,
        count=int(wrong_BP.sum()),
        checked=int(live_BP.sum()),
    )


def needs(read: AttentionRead) -> str:
    """The pages that belong there, or else the table's label."""
    return "" if read.table_space is not None else lacks_expected(read)


TRAP = Trap(
    name="page_table_in_layer_space",
    claim="The page table handed to a layer holds this batch's pages in the index space of the layer's own pool.",
    without_it="Wrong K/V is read without a fault: accept length falls, and nothing is logged.",
    cost="Label check: free. Value check: one gather through the mapping over the live entries, host copy needed.",
    runs=("eager", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    needs=needs,
)
