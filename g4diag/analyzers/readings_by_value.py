"""Readings of a table whose right ids are known: each predicts an id for every live entry, or another row's or step's.

Two spaces that agree on an entry cannot be told apart there: `telling` counts the entries that tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from g4diag.analyzers.reading import Explanation, Live
from g4diag.model import Incident, IntArray

_ROWS_COMPARED = 8


def by_value(live: Live, incident: Incident) -> Iterator[Explanation]:
    """Every reading of this sort; those that explain nothing too."""
    yield from _of_spaces(live)
    yield from _of_marks(live)
    yield from _multiple(live)
    for step, text in ((1, "the entry one column to the right"), (-1, "the entry one column to the left")):
        yield live.predicts("shifted", text, _neighbour(live, step))
    yield from _other_rows(live)
    yield from _other_request(live, incident)
    yield from _earlier(live, incident)


def _of_spaces(live: Live) -> Iterator[Explanation]:
    read, id_L, expected_L, full_L = live.read, live.id_L, live.expected_L, live.full_L
    assert expected_L is not None
    pages, unit, mapping = read.pool.num_pages, read.expected_space.unit, read.mapping
    if (live.bad_L & (id_L == expected_L) & (id_L >= pages)).any():
        text = f"the {unit}s that belong there, past the end of the pool that is read"
        yield live.reading("right-ids", text, id_L == expected_L)
    if full_L is not None and read.expected_space.is_swa:
        yield live.predicts("full-ids", f"full {unit} ids, not translated", full_L)
        clipped_L = np.clip(full_L, 0, pages - 1)
        if (clipped_L != full_L).any():
            yield live.predicts("clamp", f"full {unit} ids clamped to {pages - 1}", clipped_L)
        if mapping is not None:
            twice_L = replace(mapping, page_size=read.pool.page_size).swa_pages(expected_L)
            yield live.predicts(
                "twice", f"SWA {unit} ids translated a second time", np.where(expected_L > 0, twice_L, 0)
            )
    if full_L is not None and not read.expected_space.is_swa and mapping is not None:
        yield live.predicts("swa-ids", f"SWA {unit} ids, translated for another pool", mapping.swa_pages(full_L))
    yield from _slots(live)


def _slots(live: Live) -> Iterator[Explanation]:
    """Slots where pages belong: of the right pages, or of the full ones."""
    size, id_L, expected_L = live.read.pool.page_size, live.id_L, live.expected_L
    assert expected_L is not None
    if size == 1:
        return
    is_slot_L = id_L >= size
    yield live.reading("slots", f"slots in place of pages, {size} a page", is_slot_L & (id_L // size == expected_L))
    full_L = live.full_L
    if full_L is not None and (live.bad_L & (full_L != expected_L)).any():
        text = f"full slots, neither divided by {size} nor translated"
        yield live.reading("full-slots", text, is_slot_L & (id_L // size == full_L))


def _of_marks(live: Live) -> Iterator[Explanation]:
    """Values that stand for no page, where one belongs."""
    none_L = (live.id_L < 0) & live.bad_L
    if none_L.any():
        yield live.reading("negative", "negative ids, which stand for none", none_L | ~live.bad_L)
    dummy_L = (live.id_L == 0) & live.bad_L
    if dummy_L.any():
        yield live.reading("dummy", f"{live.read.expected_space.unit} 0, the dummy", dummy_L | ~live.bad_L)


def _neighbour(live: Live, step: int) -> IntArray:
    expected_BP = live.read.expected_BP()
    assert expected_BP is not None
    column_L = live.column_L + step
    inside_L = (column_L >= 0) & (column_L < expected_BP.shape[1])
    shifted_L = expected_BP[live.row_L, np.where(inside_L, column_L, 0)]
    return np.where(inside_L & (shifted_L > 0), shifted_L, -1)


def _multiple(live: Live) -> Iterator[Explanation]:
    """Ids that are one fixed multiple of the right ones: byte or element offsets."""
    right_L = live.expected_L
    assert right_L is not None
    fits_L = (right_L > 0) & (live.id_L > right_L) & (live.id_L % np.maximum(right_L, 1) == 0)
    if len(np.unique(right_L[fits_L])) < 2:
        return
    factors, counts = np.unique(live.id_L[fits_L] // right_L[fits_L], return_counts=True)
    factor = int(factors[counts.argmax()])
    if factor != live.read.pool.page_size:
        unit = live.read.expected_space.unit
        yield live.predicts("byte-offset", f"offsets: {factor} times the right {unit} id", right_L * factor)


def _other_rows(live: Live) -> Iterator[Explanation]:
    """For the first bad rows: the one other row whose pages they hold."""
    expected_BP = live.read.expected_BP()
    assert expected_BP is not None
    explained_L = ~live.bad_L
    for row in np.unique(live.row_L[live.bad_L])[:_ROWS_COMPARED]:
        in_row_L = live.row_L == row
        first, last = live.column_L[in_row_L][[0, -1]]
        right_BP = expected_BP[:, first : last + 1]  # the live columns of a row are those of one window
        same = (right_BP == live.id_L[in_row_L]) & (right_BP != right_BP[row])
        explained_L[in_row_L] = same[same.sum(axis=1).argmax()]
    if explained_L[live.bad_L].any():
        text = f"the {live.read.expected_space.unit}s of another row of the batch"
        yield live.reading("other-row", text, explained_L)


def _other_request(live: Live, incident: Incident) -> Iterator[Explanation]:
    """A request of the file that is in no row of the batch, by its pages at the same positions."""
    read, size = live.read, live.read.pool.page_size
    if read.expected_space.unit != "page":
        return
    position_L = live.column_L + read.starts_B()[live.row_L]
    for request in incident.requests:
        if request.rid in read.rids:
            continue
        held_P = request.full_pages_N.astype(np.int64)
        inside_L = position_L < len(held_P)
        page_L = np.where(inside_L, held_P[np.where(inside_L, position_L, 0)] if len(held_P) else -1, -1)
        if read.expected_space.is_swa and (mapping := read.mapping or incident.mapping) is not None:
            page_L = np.where(page_L > 0, replace(mapping, page_size=size).swa_pages(page_L), -1)
        explained_L = (live.id_L == page_L) & (page_L > 0) & live.bad_L
        if explained_L.any():
            text = f"the {read.expected_space.unit}s of request {request.rid}, which has no row in this batch"
            yield live.reading("other-request", text, explained_L | ~live.bad_L)


def _earlier(live: Live, incident: Incident) -> Iterator[Explanation]:
    """An earlier step's table of the same layer, where the file holds one."""
    read = live.read
    for other in incident.reads:
        same_layer = (other.worker, other.layer_id) == (read.worker, read.layer_id) and other.step < read.step
        if same_layer and other.page_table_BP.shape == read.page_table_BP.shape:
            then_L = other.page_table_BP[live.row_L, live.column_L] == live.id_L
            if then_L[live.bad_L].any():
                yield live.reading("earlier-step", f"the table of step {other.step}", then_L)
