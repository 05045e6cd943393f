"""Pages as the paged MLA kernels take them: a table and, beside it, how many keys each row has.

Judged: the bound alone, since pages may be translated or split between ranks, and rows padded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from g4diag.model import IndexSpace
from g4diag.stack.backends import flashinfer_mla
from g4diag.stack.backends.contract import Handed, KernelCall, Rail, shortest_query
from g4diag.stack.releases.contract import Point


class Pages(NamedTuple):
    """What the kernel is handed. table_BP: int32[B, P]. lengths_B: int32 or int64[B]."""

    table_BP: Any
    lengths_B: Any


def call(point: Point, table: str, lengths: str) -> KernelCall:
    """A kernel that is handed pages and lengths under those keywords."""

    def pages(*args: Any, **kwargs: Any) -> Pages | None:
        if kwargs.get(table) is None or kwargs.get(lengths) is None:
            return None
        return Pages(kwargs[table], kwargs[lengths])

    def handing(pages: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs if isinstance(pages, Pages) else kwargs | {table: pages}

    return KernelCall(pages, handing, point)


def handed(backend: Any, layer: Any, forward_batch: Any, table: Any, is_graph: bool) -> Handed | None:
    """Of such pages; of a prefill that goes FlashInfer's way, of its wrapper's slots."""
    if isinstance(table, Rail):
        return flashinfer_mla.handed(backend, layer, forward_batch, table)
    return Handed(
        table_BP=table.table_BP,
        lengths_B=table.lengths_B,
        rows_B=forward_batch.req_pool_indices[: len(table.table_BP)],
        space=IndexSpace.FULL_PAGE,
        is_copy=False,
        is_graph=is_graph,
        queries=shortest_query(forward_batch, int(getattr(forward_batch.spec_info, "draft_token_num", None) or 1)),
        is_bound_only=True,
    )


def in_graph_buffer(backend: Any) -> bool:
    """Whether what was planned last is a CUDA graph's: pages in the buffer that graphs read, or a wrapper of one."""
    pages_BP = getattr(backend.forward_metadata, "block_kv_indices", None)
    if pages_BP is None:
        return flashinfer_mla.is_graph(backend)
    buffer = getattr(backend, "cuda_graph_kv_indices", None)
    return buffer is not None and bool(pages_BP.data_ptr() == buffer.data_ptr())
