"""Many meanings at once are the meanings one by one, found here the plain way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from g4diag.analyzers.cross_space import Meaning, Owner, meaning_of, meanings_of, sentence
from g4diag.model import AttentionRead, Grade, Incident, IndexMapping, IndexSpace, LayerKind, PoolView, RequestView
from tests import samples, strategies

PAGES = st.integers(-1, 8)


def one_by_one(read: AttentionRead, row: int, column: int, incident: Incident) -> Meaning:
    """The plain way: every array is walked for every entry."""
    value, size = int(read.page_table_BP[row, column]), read.pool.page_size
    space = read.expected_space.other
    mapping = read.mapping or incident.mapping
    full = value if space is IndexSpace.FULL_PAGE else _full_page(value, mapping)
    rid = read.rids[row] if row < len(read.rids) else None
    owner = None if full is None else _owner_in_row(full, read, row, rid) or _owner(full, rid, incident, read)
    is_own = owner is not None and (owner.row == row or (owner.has_rid and owner.rid == rid))
    other = _swa_page(value, mapping) if space is IndexSpace.FULL_PAGE else full
    first = (_start(read, row) + column) * size
    free, serves = _is_free(value, space, read, incident), (first, first + size - 1)
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


def _start(read: AttentionRead, row: int) -> int:
    return 0 if read.first_B is None else int(read.first_B[row])


def _row_name(row: int) -> str:
    """Of a row without a request id. A request may be called so too, and is another one."""
    return f"row {row}"


def _owner_in_row(full: int, read: AttentionRead, row: int, rid: str | None) -> Owner | None:
    """The row's own page, told from req_to_token."""
    if read.full_page_table_BP is None:
        return None
    size, start = read.pool.page_size, _start(read, row)
    pages = -(-int(read.seq_lens_B[row]) // size) - start
    columns = np.flatnonzero(read.full_page_table_BP[row, : max(pages, 0)] == full)
    if full <= 0 or not len(columns):
        return None
    first = (start + int(columns[0])) * size
    return Owner(rid or _row_name(row), first, first + size - 1, row, bool(rid))


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


def _same(read: AttentionRead, incident: Incident) -> int:
    places = [(int(row), int(column)) for row, column in np.ndindex(read.page_table_BP.shape)]
    found = meanings_of(read, places, incident)
    for place, meaning in zip(places, found, strict=True):
        known = one_by_one(read, *place, incident)
        # What belongs there, what no pool has, and what stands for none, is certain; the oracle knows none of it.
        if meaning.belongs or meaning.beyond is not None or (meaning.value <= 0 and not meaning.is_clamp):
            assert meaning.grade is Grade.MEASURED
            known = replace(known, grade=Grade.MEASURED)
        assert meaning == known
    assert not places or meaning_of(read, *places[-1], incident) == found[-1]
    return len(places)


def test_a_page_that_belongs_there_and_one_that_no_pool_has_are_said_to_be() -> None:
    small = replace(samples.full_pool(), num_pages=150)
    read = samples.healthy_read(pool=small, table_space=IndexSpace.FULL_PAGE, page_table_BP=samples.full_pages()[None])
    (right,) = meanings_of(read, [(0, 40)], samples.incident(read))
    assert right.belongs and sentence(right).endswith("belongs there: the pool that is read is too small for it")
    roomy = replace(read, pool=samples.full_pool())
    assert sentence(meaning_of(roomy, 0, 40, samples.incident(roomy))) == "168 is the page that belongs there"
    none = replace(roomy, page_table_BP=roomy.page_table_BP * 0, full_page_table_BP=samples.full_pages()[None] * 0)
    assert sentence(meaning_of(none, 0, 40, samples.incident(none))).startswith("no page belongs there, and 0")
    wrong = replace(read, page_table_BP=samples.full_pages()[None] + 100)
    (nowhere,) = meanings_of(wrong, [(0, 40)], samples.incident(wrong))
    assert sentence(nowhere) == "268 is no SWA page either: that pool has 154 pages"


def test_the_samples_agree() -> None:
    clamped = samples.faulty_read(is_clamped=True)
    for read in (samples.faulty_read(), samples.healthy_read(), clamped, samples.faulty_read(rids=())):
        assert _same(read, samples.incident(read)) == samples.COLUMNS


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_agrees(incident: Incident) -> None:
    for read in incident.reads:
        _same(read, incident)


@st.composite
def crowded(draw: st.DrawFn) -> tuple[AttentionRead, Incident]:
    """Few pages, many owners: every rule of precedence is met."""
    rows, columns, size = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 4]))

    def table() -> np.ndarray:
        ids = draw(st.lists(PAGES, min_size=rows * columns, max_size=rows * columns))
        return np.array(ids).reshape(rows, columns)

    mapping = IndexMapping(np.array([*draw(st.lists(st.integers(0, 9 * size), min_size=1, max_size=40)), -1]), size)
    space = draw(strategies.page_spaces)
    free = draw(st.none() | strategies.ids(0, 8))
    pool = PoolView("p", space, size, 6, draw(st.none() | strategies.ids(0, 8)))
    names = st.sampled_from(["a", "b", "row 0", ""])
    lens = np.array(draw(st.lists(st.integers(0, columns * size), min_size=rows, max_size=rows)), dtype=np.int32)
    read = AttentionRead(
        *(1, "draft", "decode", "eager", "x", 0, LayerKind.SWA, -1, pool),
        draw(st.none() | strategies.page_spaces),
        table().astype(np.int32),
        lens,
        rids=tuple(draw(st.lists(names, max_size=rows))),
        full_page_table_BP=draw(st.sampled_from([None, table()])),
        mapping=draw(st.sampled_from([None, mapping])),
        is_clamped=draw(st.booleans()),
    )
    held = st.lists(PAGES, max_size=4).map(lambda pages: np.array(pages, dtype=np.int64))
    requests = draw(st.lists(st.builds(RequestView, names, st.just(0), st.just(0), held), max_size=3))
    other = PoolView("q", draw(strategies.page_spaces), size, 9, free)
    return read, Incident("x", (read,), pools=(other,), mapping=mapping, requests=tuple(requests))


@settings(max_examples=200, deadline=None)
@given(crowded())
def test_a_crowd_of_owners_agrees(made: tuple[AttentionRead, Incident]) -> None:
    assert _same(*made)
