"""What a wrong page table could be instead, and how many live entries each such reading explains.

Exact readings predict every id (full ids, slots, another row). Readings by shape only say where the wrong ids stand.
L: live entries of one read.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from g4diag.analyzers.tables import bad_BP, live_entries
from g4diag.model import AttentionRead, BoolArray, Incident, IntArray

_ENOUGH = 0.9
_MARGIN = 0.25
_ROWS_COMPARED = 8


@dataclass(frozen=True)
class Explanation:
    """One reading of a table. explained: live entries it accounts for, of `of`; bad: the bad ones among them, of
    `of_bad`. exact: it predicts their ids. because: what else speaks for it, "" if nothing does."""

    name: str
    text: str
    explained: int
    of: int
    bad: int
    of_bad: int
    exact: bool = True
    because: str = ""

    @property
    def share(self) -> float:
        """Of the live entries, 0..1."""
        return self.explained / self.of if self.of else 0.0

    @property
    def share_of_bad(self) -> float:
        """Of the bad entries, 0..1: right ones agree with several readings and tell none apart."""
        return self.bad / self.of_bad if self.of_bad else 0.0


@dataclass(frozen=True)
class _Live:
    """One read's live entries. expected_L, full_L: what belongs there, and its full page; None if not known."""

    read: AttentionRead
    row_L: IntArray
    column_L: IntArray
    id_L: IntArray
    bad_L: BoolArray
    expected_L: IntArray | None
    full_L: IntArray | None

    def reading(
        self, name: str, text: str, explained_L: BoolArray, *, exact: bool = True, because: str = ""
    ) -> Explanation:
        """An explanation from the mask of the entries it accounts for."""
        of, bad = len(explained_L), int((explained_L & self.bad_L).sum())
        return Explanation(name, text, int(explained_L.sum()), of, bad, int(self.bad_L.sum()), exact, because)


# The last reads asked about: several analyzers ask the same, and a large table takes a while.
_kept: list[tuple[weakref.ref[AttentionRead], weakref.ref[Incident], tuple[Explanation, ...]]] = []
_MAX_KEPT = 8


def explanations(read: AttentionRead, incident: Incident) -> tuple[Explanation, ...]:
    """Every reading that explains at least one entry, best first. None without live entries."""
    for of_read, of_incident, known in _kept:
        if of_read() is read and of_incident() is incident:
            return known
    found = _explanations(read, incident)
    _kept[:] = [*_kept[1 - _MAX_KEPT :], (weakref.ref(read), weakref.ref(incident), found)]
    return found


def _explanations(read: AttentionRead, incident: Incident) -> tuple[Explanation, ...]:
    row_L, column_L, id_L = live_entries(read)
    at = row_L, column_L
    expected_BP, full_BP = read.expected_BP(), read.full_page_table_BP
    live = _Live(
        read,
        row_L,
        column_L,
        id_L,
        bad_BP(read)[at],
        None if expected_BP is None else expected_BP[at],
        None if full_BP is None else full_BP[at].astype(np.int64),
    )
    found = [*_shapes(live)]
    found += [*_by_value(live), *_other_rows(live), *_earlier(live, incident)] if expected_BP is not None else []
    found += _by_geometry(live) if expected_BP is None else []
    return tuple(
        sorted((one for one in found if one.explained), key=lambda one: (-one.share_of_bad, -one.share, not one.exact))
    )


def _rank(one: Explanation) -> tuple[float, float, bool]:
    return -one.share_of_bad, -one.share, not one.exact


def winner(ranked: tuple[Explanation, ...]) -> Explanation | None:
    """The one reading that is clearly best: nearly all entries, and on the bad ones well before the next of its sort.

    An exact reading needs no lead over one that only looks at the shape."""
    if not ranked or min(ranked[0].share, ranked[0].share_of_bad) < _ENOUGH:
        return None
    best = ranked[0]
    close = [other for other in ranked[1:] if other.share_of_bad > best.share_of_bad - _MARGIN]
    return None if any(other.exact >= best.exact for other in close) else best


def _by_value(live: _Live) -> Iterator[Explanation]:
    read, id_L, expected_L, full_L = live.read, live.id_L, live.expected_L, live.full_L
    assert expected_L is not None
    page_size, pages, unit = read.pool.page_size, read.pool.num_pages, read.expected_space.unit
    if full_L is not None and read.expected_space.is_swa:
        yield live.reading("full-ids", f"full {unit} ids, not translated", id_L == full_L)
        clipped_L = np.clip(full_L, 0, pages - 1)
        if (clipped_L != full_L).any():
            yield live.reading("clamp", f"full {unit} ids clamped to {pages - 1}", id_L == clipped_L)
    if full_L is not None and not read.expected_space.is_swa and read.mapping is not None:
        yield live.reading(
            "swa-ids", f"SWA {unit} ids, translated for another pool", id_L == read.mapping.swa_pages(full_L)
        )
    if page_size > 1:
        inside_L = (id_L >= page_size) & ((id_L // page_size == expected_L) | (id_L // page_size == full_L))
        yield live.reading("slots", "slots instead of pages", inside_L)
    yield from _multiple(live)
    for step, text in ((1, "the entry one column to the right"), (-1, "the entry one column to the left")):
        yield live.reading("shifted", text, id_L == _neighbour(live, step))


def _neighbour(live: _Live, step: int) -> IntArray:
    expected_BP = live.read.expected_BP()
    assert expected_BP is not None
    column_L = live.column_L + step
    inside_L = (column_L >= 0) & (column_L < expected_BP.shape[1])
    shifted_L = expected_BP[live.row_L, np.where(inside_L, column_L, 0)]
    return np.where(inside_L & (shifted_L > 0), shifted_L, -1)


def _multiple(live: _Live) -> Iterator[Explanation]:
    """Ids that are one fixed multiple of the right ones: byte or element offsets."""
    right_L = live.expected_L
    assert right_L is not None
    fits_L = (right_L > 0) & (live.id_L > right_L) & (live.id_L % np.maximum(right_L, 1) == 0)
    if len(np.unique(right_L[fits_L])) < 2:
        return
    factors, counts = np.unique(live.id_L[fits_L] // right_L[fits_L], return_counts=True)
    factor = int(factors[counts.argmax()])
    if factor != live.read.pool.page_size:
        yield live.reading(
            "byte-offset",
            f"offsets: {factor} times the right {live.read.expected_space.unit} id",
            live.id_L == right_L * factor,
        )


def _other_rows(live: _Live) -> Iterator[Explanation]:
    """For the first bad rows: the one other row whose pages they hold."""
    expected_BP = live.read.expected_BP()
    assert expected_BP is not None
    explained_L = ~live.bad_L
    for row in np.unique(live.row_L[live.bad_L])[:_ROWS_COMPARED]:
        in_row_L = live.row_L == row
        columns = live.column_L[in_row_L]
        same = (expected_BP[:, columns] == live.id_L[in_row_L]) & (expected_BP[:, columns] != expected_BP[row, columns])
        explained_L[in_row_L] = same[same.sum(axis=1).argmax()]
    if explained_L[live.bad_L].any():
        text = f"the {live.read.expected_space.unit}s of another row of the batch"
        yield live.reading("other-row", text, explained_L)


def _earlier(live: _Live, incident: Incident) -> Iterator[Explanation]:
    """An earlier step's table of the same layer, where the file holds one."""
    read = live.read
    for other in incident.reads:
        same_layer = (other.worker, other.layer_id) == (read.worker, read.layer_id) and other.step < read.step
        if same_layer and other.page_table_BP.shape == read.page_table_BP.shape:
            then_L = other.page_table_BP[live.row_L, live.column_L] == live.id_L
            if then_L[live.bad_L].any():
                yield live.reading("earlier-step", f"the table of step {other.step}", then_L)


def _shapes(live: _Live) -> Iterator[Explanation]:
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


def _by_geometry(live: _Live) -> list[Explanation]:
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


def _untranslated(live: _Live) -> Explanation:
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
