"""TensorRT-LLM's MLA kernel through FlashInfer: TRTLLMMLABackend. There is one pool of compressed K/V and no window.

Decode, verify and draft extend hand the kernel a table of pages and lengths, -1 past a row's end; a row's end may be
that of the widest row, whose queries the others lack. Other prefills go the way of FlashInfer's MLA backend, which it
inherits from.

Judged: the bound alone, since pages may be translated or split between ranks, and rows padded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from g4diag.model import IndexSpace
from g4diag.stack.backends import flashinfer_mla
from g4diag.stack.backends.contract import Handed, KernelCall, Rail, shortest_query
from g4diag.stack.releases.contract import Point

_BACKEND = "sglang.srt.layers.attention.trtllm_mla_backend.TRTLLMMLABackend"
_DECODE = Point("flashinfer.decode.trtllm_batch_decode_with_kv_cache_mla", ("query", "kv_cache"))


class Pages(NamedTuple):
    """What the kernel is handed. table_BP: int32[B, P]. lengths_B: int32 or int64[B]."""

    table_BP: Any
    lengths_B: Any


def _handed(backend: Any, layer: Any, forward_batch: Any, table: Any) -> Handed | None:
    if isinstance(table, Rail):
        return flashinfer_mla.handed(backend, layer, forward_batch, table)
    return Handed(
        table_BP=table.table_BP,
        lengths_B=table.lengths_B,
        rows_B=forward_batch.req_pool_indices[: len(table.table_BP)],
        space=IndexSpace.FULL_PAGE,
        is_copy=False,
        is_graph=_is_graph(backend),
        queries=shortest_query(forward_batch, int(getattr(forward_batch.spec_info, "draft_token_num", None) or 1)),
        is_bound_only=True,
    )


def _is_graph(backend: Any) -> bool:
    return any(backend.forward_decode_metadata is known for known in backend.decode_cuda_graph_metadata.values())


def _pages(*args: Any, block_tables: Any = None, seq_lens: Any = None, **kwargs: Any) -> Pages | None:
    return None if block_tables is None or seq_lens is None else Pages(block_tables, seq_lens)


def _handing(table: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs if isinstance(table, Pages) else kwargs | {"block_tables": table}


ATTENTION = replace(
    flashinfer_mla.ATTENTION,
    name="trtllm_mla",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(KernelCall(_pages, _handing, _DECODE), flashinfer_mla.CALL),
    forwards=tuple(
        Point(f"{_BACKEND}.{name}", flashinfer_mla.FORWARD) for name in ("forward_decode", "forward_extend")
    ),
    handed=_handed,
    metadata_is_graph=_is_graph,
    metadata=lambda backend: backend.forward_decode_metadata or backend.forward_metadata,
)
