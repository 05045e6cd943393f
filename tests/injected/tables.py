"""Faults in what a layer is handed: ids, rows, columns and lengths of page tables, eager and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.injected.contract import Drive, Fault
from tests.injected.server import PAGE, admit, change, drafting, target
from tests.injected.watching import Watched

_SWA_BUG = ("trtllm-mha-swa", "fa3-spec-swa-table", "trtllm-mha-clamp")
_READS = (*_SWA_BUG, "eagle-own-pool", "draft-pool-too-small", "hybrid-wrapper", "patch-e-views")


Change = Callable[[Any, Any], None]


def _unchanged(server: Any, metadata: Any) -> None:
    pass


def _decoding(how: Change, twin: Change = _unchanged) -> Drive:
    """A decode of the target with its metadata changed. how, and twin where it is healthy: (server, metadata)."""

    def drive(live: Watched, broken: bool) -> None:
        server = target(live)
        live.begin()
        live.begin_step()
        change(server.runner.attn_backend, lambda metadata: (how if broken else twin)(server, metadata))
        server.decode()

    return drive


def _drafting(how: Change) -> Drive:
    """The same of a frozen-KV draft's eager steps."""

    def drive(live: Watched, broken: bool) -> None:
        draft = drafting(live)
        live.begin()
        live.begin_step()
        if broken:
            change(draft.backend, lambda metadata: how(draft.serving, metadata))
        draft.eager()

    return drive


def _a_page_on(live: Watched, server: Any) -> None:
    for _ in range(PAGE + 1):
        live.begin_step()
        server.decode()


def _another_comes(live: Watched, server: Any) -> None:
    live.begin_step()
    server.release(server.running.reqs[0])
    admit(server, "r2")


def _replaying(
    how: Change,
    before: Callable[[Any], Any],
    between: Callable[[Watched, Any], None] = _a_page_on,
) -> Drive:
    """A replay of a frozen-KV draft's graph after an earlier one. how: (buffers, what `before` returned), after the
    plan, before any layer looks. between: what the server does between the two."""

    def drive(live: Watched, broken: bool) -> None:
        draft = drafting(live)
        draft.graph()
        between(live, draft.serving)
        live.begin()
        live.begin_step()
        if broken:
            _after_plan(draft.backend, before, how)
        draft.graph()

    return drive


def _after_plan(backend: Any, before: Callable[[Any], Any], how: Change) -> None:
    """Both halves of a plan: that of the host, and the one that later releases record in the graph."""
    buffers = backend.decode_cuda_graph_metadata

    def around(honest: Any) -> Any:
        def planned(*args: Any, **kwargs: Any) -> Any:
            kept = before(buffers)
            result = honest(*args, **kwargs)
            how(buffers, kept)
            return result

        return planned

    for name in ("init_forward_metadata_out_graph", "init_forward_metadata_in_graph"):
        if hasattr(backend, name):
            setattr(backend, name, around(getattr(backend, name)))


def _slots_for_pages(server: Any, metadata: Any) -> None:
    metadata.page_table = metadata.page_table * PAGE


def _undivided(server: Any, metadata: Any) -> None:
    metadata.swa_page_table = metadata.swa_page_table * PAGE


def _translated_twice(server: Any, metadata: Any) -> None:
    mapping, table = server.allocator.full_to_swa_index_mapping, metadata.swa_page_table.long()
    # Later releases leave what is not live as they found it, and that may be anything.
    table[(table < 0) | (table * PAGE >= len(mapping))] = 0
    metadata.swa_page_table = (mapping[table * PAGE] // PAGE).int()


def _columns_cut(server: Any, metadata: Any) -> None:
    metadata.page_table, metadata.swa_page_table = metadata.page_table[:, :3], metadata.swa_page_table[:, :3]


def _a_step_old(server: Any, metadata: Any) -> None:
    metadata.cache_seqlens_int32 = metadata.cache_seqlens_int32 - 1


def _tail(page: int) -> Change:
    """Three columns of this page after each row's last. A table that ends with its longest row has none."""

    def longer(server: Any, metadata: Any) -> None:
        used = -(-int(metadata.cache_seqlens_int32.max()) // PAGE)
        table = metadata.swa_page_table
        wider = table.new_full((len(table), used + 3), page)
        wider[:, :used] = table[:, :used]
        metadata.swa_page_table = wider

    return longer


def _rows_of_each_other(server: Any, metadata: Any) -> None:
    metadata.page_table, metadata.swa_page_table = metadata.page_table.flip(0), metadata.swa_page_table.flip(0)


def _swa_tables(buffers: Any) -> list[Any]:
    return [value for name, value in sorted(buffers.items(), key=str) if str(name).startswith("swa_page_table")]


def _copies(buffers: Any) -> list[Any]:
    return [table.clone() for table in _swa_tables(buffers)]


def _put_back(buffers: Any, kept: list[Any]) -> None:
    for table, old in zip(_swa_tables(buffers), kept, strict=True):
        table.copy_(old)


def _of_batch(buffers: Any) -> Any:
    return buffers[2]


def _lengths(buffers: Any) -> Any:
    return _of_batch(buffers).cache_seqlens_int32.clone()


def _old_lengths(buffers: Any, kept: Any) -> None:
    _of_batch(buffers).cache_seqlens_int32.copy_(kept)


def _whole(buffers: Any) -> Any:
    """The captured tables, with every row again."""
    metadata = _of_batch(buffers)
    kept = getattr(metadata, "_whole", None) or (metadata.page_table, metadata.swa_page_table)
    metadata._whole = kept
    metadata.page_table, metadata.swa_page_table = kept
    return kept


def _a_row_short(buffers: Any, kept: Any) -> None:
    _of_batch(buffers).page_table, _of_batch(buffers).swa_page_table = (table[:1] for table in kept)


FAULTS = (
    Fault(
        "slots-for-pages",
        "The full layers of a decode are handed slot ids where page ids belong: nobody divided by the page size.",
        _decoding(_slots_for_pages),
        must_not=_READS,
    ),
    Fault(
        "undivided",
        "The sliding layers of a decode are handed SWA slot ids, translated and not divided by the page size.",
        _decoding(_undivided),
        must_not=_READS,
    ),
    Fault(
        "translated-twice",
        "The sliding layers of a decode are handed SWA page ids that went through the mapping a second time.",
        _decoding(_translated_twice),
        must_not=_READS,
    ),
    Fault(
        "swa-table-not-copied",
        "A replay of the draft's graph gets this step's lengths and full table, and the SWA table of an earlier step.",
        _replaying(_put_back, _copies),
        must_not=(*_READS, "table-width-draft-tokens"),
    ),
    Fault(
        "swa-table-of-others",
        "A replay of the draft's graph gets this step's lengths and full table, and the SWA table of other requests.",
        _replaying(_put_back, _copies, _another_comes),
        must_not=(*_READS, "table-width-draft-tokens"),
    ),
    Fault(
        "graph-row-short",
        "The tables of the draft's graph have one row for a batch of two requests.",
        _replaying(_a_row_short, _whole),
        must_not=("table-width-draft-tokens", "graph-topk-indices"),
    ),
    Fault(
        "columns-cut",
        "An eager draft's page tables are cut to three columns, for requests of six pages.",
        _drafting(_columns_cut),
        must_not=("table-width-draft-tokens", "graph-topk-indices"),
    ),
    Fault(
        "stale-lengths",
        "An eager draft's metadata has the lengths of one step before.",
        _drafting(_a_step_old),
        must_not=("table-width-draft-tokens", "flashinfer-spec-window"),
    ),
    Fault(
        "stale-lengths-replayed",
        "A replay of the draft's graph gets this step's tables and the lengths of an earlier step.",
        _replaying(_old_lengths, _lengths),
        must_not=("table-width-draft-tokens", "flashinfer-spec-window"),
    ),
    Fault(
        "stale-tail-past-pool",
        "Entries past each row's last page are out of the pool's range: no kernel looks at them, so nothing is broken.",
        _decoding(_tail(933), twin=_tail(0)),
        harmless=True,
        must_not=_READS,
    ),
    Fault(
        "another-row-in-table",
        "Two requests of a decode are handed each other's rows of the page tables.",
        _decoding(_rows_of_each_other),
        must_not=_READS,
    ),
)
