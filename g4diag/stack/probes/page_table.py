"""An AttentionRead of every page table a TRTLLMHAAttnBackend hands to a layer.

`_get_layer_page_table` is called by decode and extend alike and knows layer, pool and metadata. The view copies the
batch's rows to the host, which synchronises on a GPU, and the mapping whenever it was written to since: nothing is
taken while a CUDA graph is being captured, and Python does not run at all when one is replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import AttentionRead, IndexSpace, LayerKind
from g4diag.stack.probes.workers import BACKEND, Backends, layer_pool


class PageTableProbe:
    """sink takes each view. rid_of maps a request row to its rid; step_of gives the current step."""

    def __init__(
        self,
        backends: Backends,
        sink: Callable[[AttentionRead], None],
        rid_of: Callable[[int], str] = lambda row: f"row{row}",
        step_of: Callable[[], int] = lambda: 0,
    ) -> None:
        self._backends, self._sink, self._rid_of, self._step_of = backends, sink, rid_of, step_of

    def hooks(self) -> list[Hook]:
        """`_get_layer_page_table`, outermost, so that a clamped table is seen as the kernel will see it."""
        return [Hook(f"{BACKEND}._get_layer_page_table", "around", self._observed, observes=True)]

    def _observed(self, original: Any, backend: Any, layer: Any, forward_batch: Any) -> Any:
        table = original(backend, layer, forward_batch)
        with guard("observing a page table"):
            if not is_capturing():
                self._sink(self._view(backend, layer, forward_batch, table))
        return table

    def _view(self, backend: Any, layer: Any, forward_batch: Any, table: Any) -> AttentionRead:
        metadata = backend.forward_metadata
        pool, kind = layer_pool(backend.token_to_kv_pool, layer.layer_id)
        window = int(layer.sliding_window_size)
        table_BP = _host(table)
        rows = _host(forward_batch.req_pool_indices)
        batch = int((rows > 0).sum()) or len(rows)  # a padded graph row points at request row 0; padding is last
        live = min(batch, len(table_BP))
        space, is_copy = space_of(table, metadata)
        return AttentionRead(
            step=self._step_of(),
            worker=self._backends.worker(backend),
            phase=phase_of(forward_batch, self._backends.worker(backend)),
            path="graph" if is_graph_metadata(backend, metadata) else "eager",
            backend=type(backend).__name__,
            layer_id=int(layer.layer_id),
            layer_kind=kind or (LayerKind.SWA if window >= 0 else LayerKind.FULL),
            window_left=window,
            pool=pool,
            table_space=space,
            page_table_BP=table_BP[:live],
            seq_lens_B=_host(metadata.cache_seqlens_int32)[:live],
            q_len=shortest_query(forward_batch, metadata),
            rids=tuple(self._rid_of(int(row)) for row in rows[:live]),
            req_rows_B=rows[:live],
            full_page_table_BP=self._full_table(backend, forward_batch, live, table_BP.shape[1], pool.page_size),
            mapping=self._backends.mapping(backend, pool.page_size),
            is_clamped=is_copy,
            batch_rows=batch,
            batch_lens_B=self._batch_lens(backend, forward_batch, metadata)[:live],
        )

    def _batch_lens(self, backend: Any, forward_batch: Any, metadata: Any) -> Any:
        """Keys a row by the batch's own lengths, and what the forward's kind adds to them."""
        lens_B = _host(forward_batch.seq_lens).astype(np.int64)
        mode = forward_batch.forward_mode
        if mode.is_target_verify():
            return lens_B + int(metadata.max_seq_len_q)
        is_draft_decode = mode.is_decode_or_idle() and forward_batch.spec_info is not None
        if is_draft_decode and not self._backends.is_frozen(backend):  # whose metadata counts no new key
            return lens_B + backend.speculative_step_id + 1
        return lens_B

    @staticmethod
    def _full_table(backend: Any, forward_batch: Any, live: int, columns: int, page_size: int) -> Any:
        # Columns first: a view. Rows then: a gather on the device, of what is needed and no more.
        firsts = backend.req_to_token_pool.req_to_token[:, : columns * page_size : page_size]
        slots = _host(firsts[forward_batch.req_pool_indices[:live]])
        table = np.zeros((live, columns), dtype=np.int64)
        table[:, : slots.shape[1]] = slots // page_size
        return table


def _host(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy().copy()


def is_capturing() -> bool:
    import torch

    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def space_of(table: Any, metadata: Any) -> tuple[IndexSpace | None, bool]:
    """(space the backend built this table in, whether it is a changed copy), told by the tensor's identity."""
    if metadata.swa_page_table is not None and table.data_ptr() == metadata.swa_page_table.data_ptr():
        return IndexSpace.SWA_PAGE, False
    if table.data_ptr() == metadata.page_table.data_ptr():
        return IndexSpace.FULL_PAGE, False
    # A copy: of the only table there is, or of one of two.
    return (IndexSpace.FULL_PAGE if metadata.swa_page_table is None else None), True


def is_graph_metadata(backend: Any, metadata: Any) -> bool:
    tables = ("decode_cuda_graph_metadata", "target_verify_metadata", "draft_extend_metadata")
    return any(metadata is known for name in tables for known in getattr(backend, name, {}).values())


def phase_of(forward_batch: Any, worker: str) -> str:
    mode = forward_batch.forward_mode
    if mode.is_decode_or_idle():
        return "draft_decode" if worker == "draft" else "decode"
    return str(mode.name).lower()


def shortest_query(forward_batch: Any, metadata: Any) -> int:
    """Queries a row. Extend rows differ in length: the shortest judges too few old entries rather than too many."""
    if forward_batch.forward_mode.is_decode_or_idle():
        return 1
    lens = getattr(forward_batch, "extend_seq_lens_cpu", None)
    if lens is not None and not forward_batch.forward_mode.is_target_verify():
        return int(min(int(n) for n in lens))
    return int(metadata.max_seq_len_q)
