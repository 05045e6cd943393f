"""What an id means in the other index space: whose page it would be, where, and what it should have been; in words.

The entries of a table are read many at once: each array of the incident is walked once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from g4diag.model import AttentionRead, Grade, Incident, IndexMapping, IndexSpace, IntArray, PoolView


@dataclass(frozen=True)
class Owner:
    """A request that holds the id. first, last: token positions of it in the request, both included. row: its row,
    where it was found in the table's rows. has_rid: rid is its id, and not the name of a row that has none."""

    rid: str
    first: int
    last: int
    row: int | None = field(default=None, compare=False)
    has_rid: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Meaning:
    """`value` read as an id of `space`. other: the same page in the space the layer wanted, None if unmapped or
    unknown. free: whether it is on that space's free list, None if the list was not taken.
    serves: first and last token position that the table entry stands for. is_clamp: the id comes from a clamp.
    beyond: pages of `space`, where the id is past them too. belongs: it is the very page that the entry should hold.
    past: and yet past the end of the pool that is read.
    """

    value: int
    space: IndexSpace
    owner: Owner | None
    is_own: bool
    other: int | None
    free: bool | None
    grade: Grade
    serves: tuple[int, int]
    is_clamp: bool = False
    beyond: int | None = field(default=None, compare=False)
    belongs: bool = field(default=False, compare=False)
    past: bool = field(default=False, compare=False)


def sentence(meaning: Meaning) -> str:
    """One sentence for a person."""
    unit = meaning.space.unit
    if meaning.is_clamp:
        return f"{meaning.value} is the last {unit} of the pool, where the clamp puts every id past the end"
    if meaning.belongs and meaning.value <= 0:
        return f"no {unit} belongs there, and {meaning.value} is what stands for none"
    if meaning.belongs:
        small = ": the pool that is read is too small for it" if meaning.past else ""
        return f"{meaning.value} is the {unit} that belongs there{small}"
    if meaning.value <= 0:
        return f"0 is the dummy {unit}, which holds no key" if meaning.value == 0 else f"{meaning.value} is no {unit}"
    article = "an" if meaning.space.is_swa else "a"
    head = f"{meaning.value} as {article} {meaning.space} is "
    if meaning.beyond is not None:
        return f"{meaning.value} is no {meaning.space} either: that pool has {meaning.beyond} {unit}s"
    if meaning.owner is None:
        state = {True: "on the free list", False: "in use by no request recorded here", None: "of unrecorded owner"}
        head += f"{state[meaning.free]}; the entry serves positions {meaning.serves[0]}..{meaning.serves[1]}"
    else:
        named = f"request {meaning.owner.rid}" if meaning.owner.has_rid else meaning.owner.rid
        whose = f"this request's own {unit}" if meaning.is_own else f"a {unit} of {named}"
        head += f"{whose} for positions {meaning.owner.first}..{meaning.owner.last}"
        head += ", and yet on the free list" if meaning.free else ""
    return head + (f"; its {meaning.space.other} is {meaning.other}" if meaning.other is not None else "")


def placed(meaning: Meaning, read: AttentionRead, row: int, column: int, incident: Incident) -> dict[str, Any]:
    """The sentence as plain values: which entry of which read, and what is said of it."""
    at = next((n for n, other in enumerate(incident.reads) if other is read), None)
    owner = None if meaning.owner is None else [meaning.owner.rid, meaning.owner.first, meaning.owner.last]
    return {
        **{"read": at, "row": row, "column": column, "value": meaning.value, "space": str(meaning.space)},
        **{"owner": owner, "is_own": meaning.is_own, "other": meaning.other, "free": meaning.free},
        **{"serves": list(meaning.serves), "is_clamp": meaning.is_clamp, "beyond": meaning.beyond},
        **{"belongs": meaning.belongs, "past": meaning.past},
    }


Owners = list[Owner | None]


def meaning_of(read: AttentionRead, row: int, column: int, incident: Incident) -> Meaning:
    """The reading of one entry."""
    return meanings_of(read, [(row, column)], incident)[0]


def meanings_of(read: AttentionRead, places: Sequence[tuple[int, int]], incident: Incident) -> list[Meaning]:
    """The reading of the id at each (row, column) of `places` of the table handed to `read`."""
    if not places:
        return []
    rows_N, columns_N = np.array(places, dtype=np.int64).T
    values_N = read.page_table_BP[rows_N, columns_N].astype(np.int64)
    space, mapping = read.expected_space.other, _mapping(read, incident)
    full_N = _full_pages(values_N, mapping) if space.is_swa else values_N
    other_N = full_N if space.is_swa else _swa_pages(values_N, mapping)
    owners, free = _owners(read, rows_N, full_N, incident), _on_free_list(values_N, space, incident)
    size, last, expected_BP = read.pool.page_size, read.pool.num_pages - 1, read.expected_BP()
    there = max((ids for pool in _servers(incident) if (ids := _ids_of(pool, space))), default=None)
    starts_B = read.starts_B()
    found = []
    for n, (row, column) in enumerate(places):
        value, owner, other = int(values_N[n]), owners[n], int(other_N[n])
        first = (int(starts_B[row]) + column) * size
        serves = first, first + size - 1
        if read.is_clamped and value == last:
            found.append(Meaning(value, space, None, False, None, None, Grade.DERIVED, serves, is_clamp=True))
            continue
        is_own = owner is not None and (owner.row == row or (owner.has_rid and owner.rid == _rid(read, row)))
        known = other if other >= 0 else None
        is_free = None if free is None else bool(free[n])
        belongs = expected_BP is not None and int(expected_BP[row, column]) == value
        beyond = there if there is not None and value >= there else None
        grade = Grade.MEASURED if belongs or beyond is not None or value <= 0 else _grade(owner, read)
        found.append(
            Meaning(
                value,
                space,
                owner,
                is_own,
                known,
                is_free,
                grade,
                serves,
                beyond=beyond,
                belongs=belongs,
                past=value > last,
            )
        )
    return found


def _mapping(read: AttentionRead, incident: Incident) -> IndexMapping | None:
    """The mapping in the read's own units: a slot is a page of one token."""
    mapping = read.mapping or incident.mapping
    return replace(mapping, page_size=1) if mapping is not None and read.expected_space.unit == "slot" else mapping


def _servers(incident: Incident) -> list[PoolView]:
    """The pools that the mapping is between. A draft's own counts its pages by itself."""
    return [pool for pool in incident.pools if pool.name != "draft-own"]


def _ids_of(pool: PoolView, space: IndexSpace) -> int:
    """How many ids of that space the pool has, 0 if it is of another."""
    if pool.space is space:
        return pool.num_pages
    return pool.num_pages * pool.page_size if pool.space.unit == "page" and pool.slot_space is space else 0


def _rid(read: AttentionRead, row: int) -> str | None:
    return read.rids[row] if row < len(read.rids) else None


def _grade(owner: Owner | None, read: AttentionRead) -> Grade:
    """The label makes it certain that the id is of the other space; an owner makes it likely; else we guess."""
    if read.table_space is not None and read.table_space is not read.expected_space:
        return Grade.MEASURED
    return Grade.DERIVED if owner else Grade.GUESS


def _swa_pages(values_N: IntArray, mapping: IndexMapping | None) -> IntArray:
    """int64[N]: the SWA page of each full page, -1 where unmapped or unknown."""
    if mapping is None:
        return np.full(len(values_N), -1)
    pages_N = mapping.swa_pages(values_N)
    return np.where(pages_N > 0, pages_N, -1)


def _full_pages(values_N: IntArray, mapping: IndexMapping | None) -> IntArray:
    """int64[N]: the lowest full page that maps to each SWA page, -1 where none does."""
    if mapping is None:
        return np.full(len(values_N), -1)
    slots_M = mapping.full_to_swa_M[:-1]
    swa_M = np.where(slots_M > 0, slots_M // mapping.page_size, -1)
    at_N = _first_at(values_N, swa_M)
    return np.where(at_N >= 0, at_N // mapping.page_size, -1)


def _first_at(wanted_N: IntArray, ids_M: IntArray) -> Any:
    """int64[N]: the first index of each wanted id in ids_M, -1 where it is not there. Negative ids are never there."""
    sorted_K, back_N = np.unique(wanted_N, return_inverse=True)
    first_K = np.full(len(sorted_K), -1)
    if len(ids_M):
        at_M = np.minimum(np.searchsorted(sorted_K, ids_M), len(sorted_K) - 1)
        hits = np.flatnonzero((sorted_K[at_M] == ids_M) & (ids_M >= 0))[::-1]
        first_K[at_M[hits]] = hits
    return first_K[back_N]


def _owners(read: AttentionRead, rows_N: IntArray, full_N: IntArray, incident: Incident) -> Owners:
    """The row's own page first, then one of its request, of any request, of any row."""
    found: Owners = [None] * len(full_N)
    held_BP = _held_BP(read)
    everyone = range(len(incident.requests))
    for row in np.unique(rows_N).tolist():
        mine = [i for i in everyone if incident.requests[i].rid == _rid(read, row)]
        here_N = np.flatnonzero((rows_N == row) & (full_N > 0))
        _fill(found, here_N, full_N, partial(_of_rows, read, held_BP[row : row + 1], row))
        _fill(found, here_N, full_N, partial(_of_requests, read, incident, mine))
    # Each of these walks every page there is.
    legal_N = np.flatnonzero(full_N > 0)
    _fill(found, legal_N, full_N, partial(_of_requests, read, incident, everyone))
    _fill(found, legal_N, full_N, partial(_of_rows, read, held_BP, 0))
    return found


def _fill(found: Owners, here_N: IntArray, full_N: IntArray, look: Callable[[IntArray], Owners]) -> None:
    """Look up the entries among here_N that have no owner yet."""
    missing = [n for n in here_N.tolist() if found[n] is None]
    if missing:
        for n, owner in zip(missing, look(full_N[missing]), strict=True):
            found[n] = owner


def _held_BP(read: AttentionRead) -> IntArray:
    """int64[B, P]: the rows' full pages, -1 past the row's end and where they were not taken."""
    if read.full_page_table_BP is None:
        return np.full((len(read.seq_lens_B), 1), -1)
    pages_BP = read.full_page_table_BP.astype(np.int64)
    ends_B = -(-read.seq_lens_B.astype(np.int64) // read.pool.page_size) - read.starts_B()
    return np.where(np.arange(pages_BP.shape[1]) < ends_B[:, None], pages_BP, -1)


def _of_rows(read: AttentionRead, held_RP: IntArray, first_row: int, wanted_N: IntArray) -> Owners:
    size, columns, starts_B = read.pool.page_size, held_RP.shape[1], read.starts_B()
    places = [divmod(at, columns) if at >= 0 else None for at in _first_at(wanted_N, held_RP.ravel()).tolist()]
    return [None if at is None else _of_row(read, first_row + at[0], at[1], starts_B, size) for at in places]


def _of_row(read: AttentionRead, row: int, column: int, starts_B: IntArray, size: int) -> Owner:
    rid, first = _rid(read, row), (int(starts_B[row]) + column) * size
    return Owner(rid or f"row {row}", first, first + size - 1, row, bool(rid))


def _of_requests(read: AttentionRead, incident: Incident, which: Sequence[int], wanted_N: IntArray) -> Owners:
    requests = [incident.requests[i] for i in which]
    if not requests:
        return [None] * len(wanted_N)
    ends_R = np.cumsum([len(request.full_pages_N) for request in requests])
    held_M = np.concatenate([request.full_pages_N.astype(np.int64) for request in requests])
    size = _request_page_size(read, incident)
    # Slots of a page are one page here.
    at_N = _first_at(wanted_N * read.pool.page_size // size, held_M)
    which_N = np.searchsorted(ends_R, at_N, side="right")
    starts_R = ends_R - [len(request.full_pages_N) for request in requests]
    # An id that is a slot has one position, wherever in its page it lies.
    ids, inside_N = min(read.pool.page_size, size), wanted_N * read.pool.page_size % size
    return [
        _owner(requests[which].rid, int(at - starts_R[which]) * size + inside, ids) if at >= 0 else None
        for at, which, inside in zip(at_N.tolist(), which_N.tolist(), inside_N.tolist(), strict=True)
    ]


def _request_page_size(read: AttentionRead, incident: Incident) -> int:
    """Tokens a page of the pages that requests hold, which a read of flat slots does not tell."""
    sizes = [pool.page_size for pool in _servers(incident) if read.expected_space.unit == "slot"]
    return next(iter(sizes), read.pool.page_size)


def _owner(rid: str, first: int, ids: int) -> Owner:
    return Owner(rid, first, first + ids - 1)


def _on_free_list(values_N: IntArray, space: IndexSpace, incident: Incident) -> Any:
    """bool[N], or None if no free list of that space was taken."""
    hits = [
        np.isin(values_N if pool.space is space else values_N // pool.page_size, pool.free_pages_N)
        for pool in _servers(incident)
        if _ids_of(pool, space) and pool.free_pages_N is not None
    ]
    return np.logical_or.reduce(hits) if hits else None
