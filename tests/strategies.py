"""Hypothesis strategies for the nouns of g4diag, shared by all tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from g4diag import model
from g4diag.model import IndexMapping, IndexSpace, LayerKind, PoolView

# --- views and incidents -------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
counts = st.integers(0, 1 << 20)
page_sizes = st.sampled_from([1, 16, 64])
page_spaces = st.sampled_from([IndexSpace.FULL_PAGE, IndexSpace.SWA_PAGE])
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | _FINITE | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


def ids(low: int = -1, high: int = 1 << 33, *, min_size: int = 0, max_size: int = 6) -> st.SearchStrategy[Any]:
    """int64[N] arrays of ids."""
    values = st.integers(low, high)
    return st.lists(values, min_size=min_size, max_size=max_size).map(lambda xs: np.array(xs, dtype=np.int64))


def tables(rows: int, columns: int, dtype: type[np.int32] | type[np.int64]) -> st.SearchStrategy[Any]:
    """dtype[rows, columns] page tables, garbage included."""
    size = rows * columns
    values = st.lists(st.integers(-2, (1 << 31) - 1), min_size=size, max_size=size)
    return values.map(lambda xs: np.array(xs, dtype=dtype).reshape(rows, columns))


pools = st.builds(
    PoolView, names, page_spaces, page_sizes, num_pages=st.integers(1, 1 << 20), free_pages_N=st.none() | ids()
)
mappings = st.builds(IndexMapping, ids(min_size=1, max_size=40), page_sizes)
requests = st.builds(model.RequestView, rid=names, row=counts, seq_len=counts, full_pages_N=ids())
allocations = st.builds(model.Allocation, call=names, pool=pools, slots_N=ids(), live_pages_N=st.none() | ids())
releases = st.builds(model.Release, pool=pools, slots_N=ids(), live_pages_N=ids())
free_lists = st.builds(model.FreeList, pool=pools, live_pages_N=ids())
mapping_updates = st.integers(0, 6).flatmap(
    lambda n: st.builds(model.MappingUpdate, names, *(ids(min_size=n, max_size=n),) * 3)
)
kv_writes = st.builds(model.KVWrite, names, names, st.none() | counts, counts)
kv_slots = (st.none() | st.integers(0, 4)).flatmap(
    lambda n: st.builds(
        model.KVSlots,
        *(names,) * 4,
        counts,
        st.none() | st.sampled_from(LayerKind),
        pools,
        st.none() | st.sampled_from(IndexSpace),
        tokens=st.just(n or 0),
        slots_N=st.none() if n is None else ids(min_size=n, max_size=n),
        full_slots_N=st.none() if n is None else ids(min_size=n, max_size=n),
        mapping=st.none() | mappings,
        handed_out_N=st.none() if n is None else st.none() | ids(min_size=n, max_size=n),
    )
)
prefix_matches = st.integers(0, 6).flatmap(
    lambda n: st.builds(model.PrefixMatch, names, counts, counts, *(ids(min_size=n, max_size=n) for _ in range(2)))
)
query_rows = st.builds(model.QueryRows, names, names, names, names, counts, counts, counts, counts)
swaps = st.builds(
    model.PoolSwap,
    *(names,) * 4,
    read_pool_is_swa=st.booleans(),
    swa_state=st.none() | names,
    frozen_kv=st.booleans(),
    before=st.none() | st.tuples(names, st.none() | names),
    graph_swa_tables=st.none() | st.booleans(),
    wanted_pool=st.none() | names,
)
violations = st.builds(
    model.Violation,
    trap=names,
    severity=st.sampled_from(model.Severity),
    summary=names,
    step=st.none() | counts,
    layer_id=st.none() | counts,
    layer_kind=st.none() | st.sampled_from(LayerKind),
    row=st.none() | counts,
    rid=st.none() | names,
    column=st.none() | counts,
    value=st.none() | st.integers(-(1 << 40), 1 << 40),
    expected=st.none() | counts,
    bound=st.none() | counts,
    value_space=st.none() | st.sampled_from(IndexSpace),
    expected_space=st.none() | st.sampled_from(IndexSpace),
    count=counts,
    checked=counts,
)


def row_owners(rows: int) -> st.SearchStrategy[model.RowOwners]:
    """Of so many rows."""
    who = st.lists(names, min_size=rows, max_size=rows).map(tuple)
    numbers = ids(min_size=rows, max_size=rows)
    return st.builds(model.RowOwners, who, numbers, numbers, who, numbers)


@st.composite
def reads(draw: st.DrawFn) -> model.AttentionRead:
    """Well-formed reads whose ids and lengths may be anything."""
    rows, columns = draw(st.integers(0, 3)), draw(st.integers(0, 5))
    lengths = draw(st.lists(st.integers(0, 500), min_size=rows, max_size=rows))
    return model.AttentionRead(
        step=draw(st.integers(-1, 99)),
        worker=draw(names),
        phase=draw(names),
        path=draw(names),
        backend=draw(names),
        layer_id=draw(counts),
        layer_kind=draw(st.sampled_from(LayerKind)),
        window_left=draw(st.integers(-1, 300)),
        pool=draw(pools),
        table_space=draw(st.none() | page_spaces),
        page_table_BP=draw(tables(rows, columns, np.int32)),
        seq_lens_B=np.array(lengths, dtype=np.int32),
        q_len=draw(st.integers(1, 4)),
        rids=tuple(draw(st.lists(names, max_size=rows))),
        req_rows_B=draw(st.none() | ids(min_size=rows, max_size=rows)),
        full_page_table_BP=draw(st.none() | tables(rows, columns, np.int64)),
        mapping=draw(st.none() | mappings),
        is_clamped=draw(st.booleans()),
        batch_rows=draw(st.none() | st.integers(0, 4)),
        batch_lens_B=draw(st.none() | ids(min_size=rows, max_size=rows)),
        first_B=draw(st.none() | ids(min_size=rows, max_size=rows)),
        handed_out_BP=draw(st.none() | tables(rows, columns, np.int64)),
        owner_BP=draw(st.none() | tables(rows, columns, np.int64)),
        row_owners=draw(st.none() | row_owners(rows)),
        windows=draw(st.none() | st.builds(model.Windows, *(st.integers(-1, 300),) * 3)),
        backend_page_size=draw(st.none() | page_sizes),
        allocator_page_size=draw(st.none() | page_sizes),
    )


ring_records = st.builds(
    model.RingRecord,
    seq=counts,
    time_ns=counts,
    kind=names,
    step=counts,
    mode=names,
    rids=st.lists(names, max_size=3).map(tuple),
    text=names,
)

incidents = st.builds(
    model.Incident,
    origin=names,
    reads=st.lists(reads(), max_size=2).map(tuple),
    swaps=st.lists(swaps, max_size=2).map(tuple),
    allocations=st.lists(allocations, max_size=2).map(tuple),
    releases=st.lists(releases, max_size=2).map(tuple),
    free_lists=st.lists(free_lists, max_size=2).map(tuple),
    mapping_updates=st.lists(mapping_updates, max_size=2).map(tuple),
    kv_writes=st.lists(kv_writes, max_size=2).map(tuple),
    kv_slots=st.lists(kv_slots, max_size=2).map(tuple),
    query_rows=st.lists(query_rows, max_size=2).map(tuple),
    pools=st.lists(pools, max_size=2).map(tuple),
    mapping=st.none() | mappings,
    requests=st.lists(requests, max_size=2).map(tuple),
    violations=st.lists(violations, max_size=2).map(tuple),
    manifest=st.dictionaries(names, st.lists(names, max_size=2), max_size=2),
    versions=st.dictionaries(names, names, max_size=2),
    context=st.dictionaries(names, plain_values, max_size=2),
    notes=st.lists(st.tuples(st.sampled_from(model.Grade), names), max_size=2).map(tuple),
    ring=st.lists(ring_records, max_size=2).map(tuple),
)
