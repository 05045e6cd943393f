"""An AttentionRead of every page table that a known attention backend hands to a layer.

What was handed is told by the backend's own file (`stack/backends`), outermost, so that a clamped table is seen as the
kernel will see it. The view copies the
batch's rows to the host, which synchronises on a GPU, and the mapping whenever it was written to since: nothing is
taken while a CUDA graph is being captured, and Python does not run at all when one is replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import AttentionRead, LayerKind
from g4diag.stack.backends.contract import Attention, Handed
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.probes.handed_tables import table_hooks
from g4diag.stack.probes.remembered import remembered
from g4diag.stack.probes.workers import Backends


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
        """Where each backend hands a layer its table."""
        return table_hooks(self._backends, self._observed)

    def _observed(self, attention: Attention, backend: Any, layer: Any, forward_batch: Any, table: Any) -> Any:
        with guard("observing a page table"):
            if not is_capturing():
                handed = attention.handed(backend, layer, forward_batch, table)
                if handed is not None:
                    self._sink(self._view(attention, backend, layer, forward_batch, handed))
        return table

    def _view(
        self, attention: Attention, backend: Any, layer: Any, forward_batch: Any, handed: Handed
    ) -> AttentionRead:
        worker = self._backends.worker(backend)
        pool, kind = self._backends.layer_pool(backend.token_to_kv_pool, layer.layer_id)
        pool = pool.by_slot() if handed.by_slot else pool
        window, rows = int(layer.sliding_window_size), _host(handed.rows_B)
        table_BP, lengths_B, first_B = laid_out(handed.table_BP, handed.lengths_B, handed.indptr_B1, handed.is_clipped)
        requests = _rows_of_requests(rows, forward_batch)
        batch = requests or len(rows)
        live = min(batch, len(table_BP))
        mapping = self._backends.mapping(backend, pool.page_size)
        # What a graph is captured and warmed up with is padding alone, which asks for no keys; buffers that graphs of
        # several sizes share hold what was read last, or nothing yet.
        is_nobodys = not requests and handed.is_graph
        if is_nobodys:
            full_BP = None
        elif handed.is_bound_only:
            full_BP = _told(handed, live)
        else:
            full_BP = full_table(backend, handed.rows_B[:live], table_BP.shape[1], pool.page_size, first_B)
        frozen = self._backends.is_frozen(backend) or is_frozen_draft(forward_batch)
        judged = not (is_nobodys or handed.is_bound_only)
        told_B = attention.keys_B(backend, forward_batch, frozen) if judged else None
        keys_B = None if told_B is None else _host(told_B).astype(np.int64, copy=False)
        if keys_B is not None and len(keys_B) < len(rows):  # a table of several rows a request
            keys_B = keys_B.repeat(len(rows) // len(keys_B))
        return AttentionRead(
            step=self._step_of(),
            worker=worker,
            phase=phase_of(forward_batch, worker),
            path=handed.path,
            backend=type(backend).__name__,
            layer_id=int(layer.layer_id),
            layer_kind=kind or (LayerKind.SWA if window >= 0 else LayerKind.FULL),
            window_left=window,
            pool=pool,
            table_space=handed.space,
            page_table_BP=table_BP[:live],
            seq_lens_B=lengths_B[:live],
            q_len=handed.queries,
            rids=tuple([self._rid_of(row) for row in rows[:live].tolist()]),
            req_rows_B=rows[:live],
            full_page_table_BP=full_BP,
            mapping=mapping,
            is_clamped=handed.is_copy,
            batch_rows=batch,
            batch_lens_B=None if keys_B is None else keys_B[:live],
            first_B=None if first_B is None else first_B[:live],
            **remembered(self._backends, backend, layer, pool, full_BP, mapping),
            row_owners=self._backends.request_rows.of(backend.req_to_token_pool, forward_batch, rows[:live]),
        )


def real_rows(rows_B: Any, forward_batch: Any = None) -> int:
    """How many of these request rows are the batch's own; all of them where none is. Padding comes last, points at row
    0, which a server gives to no request, and has no more than one key by the batch's own lengths. No batch: row 0 is
    padding, whatever its length."""
    return _rows_of_requests(rows_B, forward_batch) or len(rows_B)


def _rows_of_requests(rows_B: Any, forward_batch: Any) -> int:
    if np.count_nonzero(rows_B > 0) == len(rows_B):  # as nearly always: the lengths are on the device, and stay there
        return len(rows_B)
    lens_B = getattr(forward_batch, "seq_lens", None)
    is_real_B = rows_B > 0
    if lens_B is not None and (requests := lens_B.numel()) and len(rows_B) % requests == 0:
        keys_B = _host(lens_B)
        is_real_B = is_real_B | (keys_B.repeat(len(rows_B) // requests) > _PADDED_KEYS)
    (real,) = is_real_B.nonzero()
    return int(real[-1]) + 1 if len(real) else 0


def is_frozen_draft(forward_batch: Any) -> bool:
    """Whether a decode that has a draft's input is a frozen-KV draft's, whatever its backend was built with."""
    asked = getattr(getattr(forward_batch, "spec_algorithm", None), "is_frozen_kv_mtp", None)
    return getattr(forward_batch, "spec_info", None) is not None and asked is not None and bool(asked())


def _told(handed: Handed, live: int) -> Any:
    told_BP = handed.told_BP()
    return None if told_BP is None else told_BP[:live]


def laid_out(table: Any, lengths_B: Any, indptr: Any, is_clipped: bool) -> tuple[Any, Any, Any]:
    """What a `Handed` has, on the host: (ids int32[B, P], keys a row int32[B], first_B or None). Flat indices are laid
    out row by row, with zeros after a row's end."""
    keys_B = _host(lengths_B)
    if indptr is None:
        return _host(table), keys_B, None
    indptr_B1 = _host(indptr).astype(np.int64)
    counts_B, rows = np.diff(indptr_B1), len(indptr_B1) - 1
    flat_N = _host(table[: int(indptr_B1[-1])])
    table_BP = np.zeros((rows, int(counts_B.max(initial=0))), dtype=np.int32)
    inside_BP = np.arange(table_BP.shape[1]) < counts_B[:, None]
    table_BP[inside_BP] = np.clip(flat_N, *_INT32)
    if not is_clipped:
        return table_BP, counts_B.astype(np.int32), None
    first_B = np.maximum(keys_B[:rows].astype(np.int64) - counts_B, 0)
    return table_BP, (first_B + counts_B).astype(np.int32), first_B


def full_table(backend: Any, rows_B: Any, columns: int, page_size: int, first_B: Any = None) -> Any:
    """int64[B, columns]: the rows' full pages, from their page first_B on; 0 past the end of the request table."""
    table_RT = backend.req_to_token_pool.req_to_token
    if first_B is None:
        if table_RT.is_cpu:  # numpy's calls take a fraction of torch's
            slots = table_RT.numpy()[rows_B.numpy(), : columns * page_size : page_size]
        else:
            # Columns first: a view. Rows then: a gather on the device, of what is needed and no more.
            slots = _host(table_RT[:, : columns * page_size : page_size][rows_B])
        if slots.shape[1] == columns:
            return np.floor_divide(slots, page_size, dtype=np.int64)
        table = np.zeros((len(slots), columns), dtype=np.int64)
        table[:, : slots.shape[1]] = slots // page_size
        return table
    rows = len(rows_B)
    at_BP = (first_B[:rows, None] + np.arange(columns)) * page_size
    inside_BP = at_BP < table_RT.shape[1]
    at = rows_B.new_tensor(np.where(inside_BP, at_BP, 0))
    return np.where(inside_BP, _host(table_RT[rows_B[:, None], at]).astype(np.int64) // page_size, 0)


_PADDED_KEYS = 1  # what every backend here has a padded row's length filled with
_INT32 = np.iinfo(np.int32).min, np.iinfo(np.int32).max


def _host(tensor: Any) -> Any:
    if tensor.is_cpu and not tensor.requires_grad:
        return tensor.numpy().copy()
    return tensor.detach().cpu().numpy().copy()


def is_capturing() -> bool:
    import torch

    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def phase_of(forward_batch: Any, worker: str) -> str:
    mode = forward_batch.forward_mode
    if mode.is_decode_or_idle():
        return "draft_decode" if worker == "draft" else "decode"
    return str(mode.name).lower()


def _make(context: Context, wanted: frozenset[type]) -> PageTableProbe:
    return PageTableProbe(context.workers, context.sink, context.rid_of, context.step_of)


PROBE = Probe("page_table", frozenset({AttentionRead}), _make)
