"""A full page in a sliding layer's window maps to the SWA page that was handed out with it.

Every SWA table is the mapping's word, and the other table traps hold a table against that same live array: where the
mapping itself was changed, both are wrong together and agree. Two requests' runs swapped, or an entry written over
by whoever had an old index, then read another request's K/V and fault nowhere. So what the two allocators handed out
is written down when they hand it out, apart from the mapping, and forgotten when it is freed; the mapping is held
against that where a table of it is read. Both owners are named.

`mapping_follows_allocation` looks at the mapping right after a call that had to change it, and not later. An entry of
0 in the window is a page that was lost, which `page_in_window_is_mapped` tells. What `set_full_to_swa_mapping` is
asked to write counts as handed out: a prefix cache gives a page that lost its SWA half another one so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import AttentionRead, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import lacks_expected, row_named, violation_in


def judge(read: AttentionRead) -> Iterator[Violation]:
    """One violation a read, at its first entry whose page was handed out to another, in row order."""
    mapped_BP, full_BP = read.expected_BP(), read.full_page_table_BP
    if not read.expected_space.is_swa or mapped_BP is None or full_BP is None or read.handed_out_BP is None:
        return
    differs_BP = mapped_BP != read.handed_out_BP
    if not np.count_nonzero(differs_BP):
        return
    live_BP = read.live_BP()
    wrong_BP = live_BP & (mapped_BP > 0) & differs_BP
    if not wrong_BP.any():
        return
    row, column = (int(i) for i in np.argwhere(wrong_BP)[0])
    yield violation_in(
        read,
        TRAP.name,
        Severity.ERROR,
        f"row {row} column {column}: {_told(read, full_BP, mapped_BP, row, column)}",
        row=row,
        column=column,
        expected_space=read.expected_space,
        count=int(wrong_BP.sum()),
        checked=int(live_BP.sum()),
    )


def _told(read: AttentionRead, full_BP: np.ndarray, mapped_BP: np.ndarray, row: int, column: int) -> str:
    unit, full = read.expected_space.unit, int(full_BP[row, column])
    own = 0 if read.handed_out_BP is None else int(read.handed_out_BP[row, column])
    other = 0 if read.owner_BP is None else int(read.owner_BP[row, column])
    whose = f"{read.worker} layer {read.layer_id} reads full {unit} {full} of {row_named(read, row)}"
    found = f"which maps to SWA {unit} {int(mapped_BP[row, column])}"
    if read.owner_BP is None:
        told = "that was not handed out with it"
    elif not other:
        told = f"that nobody's full {unit} was handed out with"
    else:
        at = np.argwhere((full_BP == other) & read.live_BP())
        of = f" of {row_named(read, int(at[0][0]))}" if len(at) else ", of no request in this batch"
        told = f"that was handed out with full {unit} {other}{of}"
    right = f"SWA {unit} {own} was handed out with it" if own else f"no SWA {unit} of now was handed out with it"
    return f"{whose}, {found}, {told}; {right}"


def needs(read: AttentionRead) -> str:
    """A sliding layer, the mapping, and what was handed out."""
    if not read.expected_space.is_swa:
        return "a read of an SWA pool"
    return lacks_expected(read) or ("the pages that were handed out" if read.handed_out_BP is None else "")


TRAP = Trap(
    name="mapping_is_what_was_handed_out",
    claim="A full page in a sliding layer's window maps to the SWA page that was handed out with it.",
    without_it="Requests whose mapping was swapped or written over read each other's K/V: wrong answers, no fault.",
    cost="One more write a call of the allocator, on the device, and 8 bytes a full slot; a read: one gather of the "
    "batch's pages, which eagerly waits for the device, and in CUDA graphs is a part of the tables' own check there.",
    runs=("eager", "captured", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    needs=needs,
    remembers=("mapping",),
)
