"""Readings by shape: where the wrong ids stand, and what the bound, the window and the page size alone say of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from g4diag.analyzers.reading import Explanation, Live

_ENOUGH = 0.9


def by_place(live: Live) -> Iterator[Explanation]:
    """Wrong from some column on to the end of the row, and right before it."""
    explained_L, tails = ~live.bad_L, 0
    first_of_row = np.flatnonzero(np.diff(live.row_L, prepend=-1))
    for start, end in itertools.pairwise([*first_of_row.tolist(), len(live.row_L)]):
        bad = live.bad_L[start:end]
        if not bad[0] and bad.any() and bad[int(bad.argmax()) :].all():
            explained_L[start:end] = True
            tails += 1
    if tails:
        yield live.reading("stale-tail", "a stale tail: right at first, wrong to the end", explained_L, exact=False)


def by_geometry(live: Live) -> list[Explanation]:
    """Readings of a table of which only the bound, the window and the page size are known."""
    read, id_L = live.read, live.id_L
    size, pages = read.pool.page_size, read.pool.num_pages
    found: list[Explanation] = []
    if read.expected_space.is_swa and live.bad_L.any():
        found.append(_untranslated(live))
    if size > 1:
        slots_L = (id_L >= size) & (id_L % size == 0) & (id_L // size < pages)
        found.append(live.reading("slots", "slots instead of pages: multiples of the page size", slots_L))
    last_L = id_L == pages - 1
    if last_L.sum() > 1:
        found.append(live.reading("clamp", f"ids clamped to the last {read.expected_space.unit}, {pages - 1}", last_L))
    return found


def _untranslated(live: Live) -> Explanation:
    """Rows filled left of the window. A table in SWA ids has zeros there once those pages are freed."""
    read, live_BP, unit = live.read, live.read.live_BP(), live.read.expected_space.unit
    first_B, has_live_B = np.expand_dims(live_BP.argmax(axis=1), 1), live_BP.any(axis=1, keepdims=True)
    left_BP = (np.arange(live_BP.shape[1]) < first_B) & has_live_B
    why = f"{int(live.bad_L.sum())} ids are past the {read.pool.num_pages} {unit}s"
    explained_L = live.bad_L
    if left_BP.any():
        filled_BP = left_BP & (read.page_table_BP > 0)
        share_B = filled_BP.sum(axis=1) / np.maximum(left_BP.sum(axis=1), 1)
        explained_L = np.take(share_B, live.row_L) >= _ENOUGH
        why += f", and {int(filled_BP.sum())} of {int(left_BP.sum())} entries left of the window are filled"
        why += f"; freed SWA {unit}s would be 0"
    return live.reading("full-ids", f"full {unit} ids, not translated", explained_L, because=why)
