"""Which entries of a page table are bad, and in which reads: shared by the analyzers that explain them."""

from __future__ import annotations

import numpy as np

from g4diag.model import AttentionRead, BoolArray, Incident, IndexMapping, IndexSpace, IntArray


def no_page_BP(read: AttentionRead) -> BoolArray:
    """bool[B, P]: entries below 0 or past the last page of the layer's own pool, live or not."""
    outside: BoolArray = (read.page_table_BP < 0) | (read.page_table_BP >= read.pool.num_pages)
    return outside


def outside_BP(read: AttentionRead) -> BoolArray:
    """bool[B, P]: live entries below 0 or past the last page of the layer's own pool."""
    return no_page_BP(read) & read.live_BP()


def bad_BP(read: AttentionRead) -> BoolArray:
    """bool[B, P]: live entries that are outside the pool, or are not the page that belongs there."""
    expected_BP = read.expected_BP()
    if expected_BP is None:
        return outside_BP(read)
    wrong: BoolArray = outside_BP(read) | (read.live_BP() & (read.page_table_BP != expected_BP))
    return wrong


def bad_reads(incident: Incident) -> list[tuple[AttentionRead, BoolArray]]:
    """Reads with a bad entry and where those are; reads past the end of a pool first, else in file order."""
    found = [(read, bad) for read in incident.reads if (bad := bad_BP(read)).any()]
    return sorted(found, key=lambda pair: not outside_BP(pair[0]).any())


def live_entries(read: AttentionRead) -> tuple[IntArray, IntArray, IntArray]:
    """int64[L] each: row, column and page id of every live entry, in row order."""
    row_L, column_L = np.nonzero(read.live_BP())
    return row_L, column_L, read.page_table_BP[row_L, column_L].astype(np.int64)


def mapping_of(incident: Incident) -> tuple[IndexMapping, str] | None:
    """The mapping when the file was written, else that of the first read that holds one; and what its ids are: pages,
    or the slots of a read that is handed those."""
    if incident.mapping is not None:
        return incident.mapping, IndexSpace.FULL_PAGE.unit
    read = next((read for read in incident.reads if read.mapping is not None), None)
    return None if read is None or read.mapping is None else (read.mapping, read.expected_space.unit)
