"""FlashInfer's MLA wrapper: FlashInferMLAAttnBackend. There is one pool of compressed K/V and no window.

A wrapper is planned with flat slots, whatever the page size, and is called with a query and the pool: the slots are
read from it at its call. Where a row's begin is told to the kernel by the plan, on the host; a decode's are in the
backend's own buffer too, which a replay brings up to date, and those of the wrapper are left as they were captured.
A prefill without a prefix takes no slots, and one by chunks reads gathered copies.

Judged: the bound alone, since slots may be translated or split between ranks, and pages padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from g4diag.model import IndexSpace
from g4diag.stack.backends.contract import Attention, Handed, KernelCall, Rail, as_called, shortest_query
from g4diag.stack.releases.contract import Point

BACKEND = "sglang.srt.layers.attention.flashinfer_mla_backend.FlashInferMLAAttnBackend"
FORWARD = ("q", "k", "v", "layer", "forward_batch")
_RUN = Point("flashinfer.mla.BatchMLAPagedAttentionWrapper.run", ("q_nope", "q_pe", "ckv_cache", "kpe_cache"))


def handed(backend: Any, layer: Any, forward_batch: Any, rail: Rail) -> Handed | None:
    """Of a wrapper's slots."""
    del layer  # all read the same
    rows_B = forward_batch.req_pool_indices
    indptr_B1 = rail.indptr_B1
    if forward_batch.forward_mode.is_decode_or_idle():
        indptr_B1 = backend.kv_indptr[: len(indptr_B1)]
    rows = len(indptr_B1) - 1
    return Handed(
        table_BP=rail.indices_N,
        lengths_B=indptr_B1.diff(),
        rows_B=rows_B[:rows],
        space=IndexSpace.FULL_SLOT,
        is_copy=False,
        is_graph=is_graph(backend),
        queries=shortest_query(forward_batch, int(getattr(forward_batch.spec_info, "draft_token_num", None) or 1)),
        by_slot=True,
        indptr_B1=indptr_B1,
        is_bound_only=True,
    )


def is_graph(backend: Any) -> bool:
    """Whether the wrapper planned last is a CUDA graph's."""
    metadata = backend.forward_metadata
    return bool((getattr(metadata, "decode_wrapper", None) or metadata.prefill_wrapper)._use_cuda_graph)


def _planned(wrapper: Any, *args: Any, **kwargs: Any) -> Rail | None:
    indices = wrapper._kv_indices_buf
    return None if indices is None else Rail(wrapper._kv_indptr_buf, indices)


@contextmanager
def _placing(rail: Rail, wrapper: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
    """Later releases of FlashInfer read them from what was planned, of which the wrapper keeps a mirror."""
    with ExitStack() as undo:
        for holder in (wrapper, getattr(wrapper, "_planned_backend", None)):
            if getattr(holder, "_kv_indices_buf", None) is not None:
                undo.enter_context(patch.object(holder, "_kv_indices_buf", rail.indices_N))
        yield


CALL = KernelCall(_planned, as_called, _RUN, placing=_placing)

ATTENTION = Attention(
    name="flashinfer_mla",
    backend=BACKEND,
    built=Point(f"{BACKEND}.__init__", ("model_runner",)),
    calls=(CALL,),
    forwards=(Point(f"{BACKEND}.forward_decode", FORWARD), Point(f"{BACKEND}.forward_extend", FORWARD)),
    handed=handed,
    metadata_is_graph=is_graph,
    swa_state=lambda backend: None,
    graph_tables=lambda backend: None,
    keys_B=lambda backend, forward_batch, serves_frozen_draft: None,
)
