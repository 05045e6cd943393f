"""What an id means in the other index space: whose page it would be, where, and what it should have been."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from g4diag.model import AttentionRead, Grade, Incident, IndexMapping, IndexSpace, PoolView


@dataclass(frozen=True)
class Owner:
    """A request that holds the page. first, last: token positions of the page in it, both included."""

    rid: str
    first: int
    last: int


@dataclass(frozen=True)
class Meaning:
    """`value` read as an id of `space`. other: the same page in the space the layer wanted, None if unmapped or
    unknown. free: whether it is on that space's free list, None if the list was not taken.
    serves: first and last token position that the table entry stands for. is_clamp: the id comes from a clamp.
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


_OTHER = {IndexSpace.SWA_PAGE: IndexSpace.FULL_PAGE, IndexSpace.FULL_PAGE: IndexSpace.SWA_PAGE}


def meaning_of(read: AttentionRead, row: int, column: int, incident: Incident) -> Meaning:
    """The reading of the page id at (row, column) of the table handed to `read`, as a page of the other space."""
    value, size = int(read.page_table_BP[row, column]), read.pool.page_size
    space = _OTHER[read.expected_space]
    mapping = read.mapping or incident.mapping
    full = value if space is IndexSpace.FULL_PAGE else _full_page(value, mapping)
    rid = read.rids[row] if row < len(read.rids) else None
    owner = None if full is None else _owner_in_row(full, read, row, rid) or _owner(full, rid, incident, read)
    is_own = owner is not None and (owner.rid == rid if rid else owner.rid == _row_name(row))
    other = _swa_page(value, mapping) if space is IndexSpace.FULL_PAGE else full
    free, serves = _is_free(value, space, read, incident), (column * size, column * size + size - 1)
    if read.is_clamped and value == read.pool.num_pages - 1:
        return Meaning(value, space, None, False, None, None, Grade.DERIVED, serves, is_clamp=True)
    return Meaning(value, space, owner, is_own, other, free, _grade(owner, read), serves)


def _full_page(swa_page: int, mapping: IndexMapping | None) -> int | None:
    pages = mapping.full_pages_of(swa_page) if mapping else []
    return pages[0] if pages else None


def _swa_page(full_page: int, mapping: IndexMapping | None) -> int | None:
    if mapping is None:
        return None
    page = int(mapping.swa_pages(np.array([full_page]))[0])
    return page if page > 0 else None


def _row_name(row: int) -> str:
    return f"row {row}"


def _owner_in_row(full: int, read: AttentionRead, row: int, rid: str | None) -> Owner | None:
    """The row's own page, told from req_to_token."""
    if read.full_page_table_BP is None:
        return None
    size = read.pool.page_size
    pages = -(-int(read.seq_lens_B[row]) // size)
    columns = np.flatnonzero(read.full_page_table_BP[row, : max(pages, 0)] == full)
    if full <= 0 or not len(columns):
        return None
    return Owner(rid or _row_name(row), int(columns[0]) * size, int(columns[0]) * size + size - 1)


def _owner(full: int, rid: str | None, incident: Incident, read: AttentionRead) -> Owner | None:
    """Any live request that holds the page, this one first."""
    size = read.pool.page_size
    for request in sorted(incident.requests, key=lambda request: request.rid != rid):
        at = np.flatnonzero(request.full_pages_N == full)
        if full > 0 and len(at):
            return Owner(request.rid, int(at[0]) * size, int(at[0]) * size + size - 1)
    rows = (_owner_in_row(full, read, r, _rid(read, r)) for r in range(len(read.seq_lens_B)))
    return next((owner for owner in rows if owner), None)


def _rid(read: AttentionRead, row: int) -> str | None:
    return read.rids[row] if row < len(read.rids) else None


def _is_free(value: int, space: IndexSpace, read: AttentionRead, incident: Incident) -> bool | None:
    pools: list[PoolView] = [pool for pool in (*incident.pools, read.pool) if pool.space is space]
    lists = [pool.free_pages_N for pool in pools if pool.free_pages_N is not None]
    return any(bool((pages == value).any()) for pages in lists) if lists else None


def _grade(owner: Owner | None, read: AttentionRead) -> Grade:
    """The label makes it certain that the id is of the other space; an owner makes it likely; else we guess."""
    if read.table_space is not None and read.table_space is not read.expected_space:
        return Grade.MEASURED
    return Grade.DERIVED if owner else Grade.GUESS


def sentence(meaning: Meaning) -> str:
    """One sentence for a person."""
    if meaning.is_clamp:
        return f"{meaning.value} is the last page of the pool, where the clamp puts every id past the end"
    head = f"{meaning.value} as a {meaning.space} is "
    wanted = _OTHER[meaning.space]
    if meaning.owner is None:
        state = {True: "on the free list", False: "in use by no request recorded here", None: "of unrecorded owner"}
        head += f"{state[meaning.free]}; the entry serves positions {meaning.serves[0]}..{meaning.serves[1]}"
    else:
        whose = "this request's own page" if meaning.is_own else f"a page of request {meaning.owner.rid}"
        head += f"{whose} for positions {meaning.owner.first}..{meaning.owner.last}"
        head += ", and yet on the free list" if meaning.free else ""
    return head + (f"; its {wanted} is {meaning.other}" if meaning.other is not None else "")
