"""Intel's AMX kernels on a CPU: IntelAMXAttnBackend.

Its kernels take the request table itself, in slots, and the batch's rows of it; for a sliding layer the rows are
copied and translated, where the backend takes its pool for an SWA pool. That is a boolean, asked of the runner's own
pool in the constructor, as on fa4: what the views of a frozen-KV draft leave behind. Before 0.5.23 no row was
translated, whatever the pool.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from g4diag.model import IndexSpace
from g4diag.stack.backends.contract import Attention, Handed, KernelCall, shortest_query
from g4diag.stack.releases.contract import Point

_BACKEND = "sglang.srt.layers.attention.intel_amx_backend.IntelAMXAttnBackend"
_FORWARD = ("q", "k", "v", "layer", "forward_batch")


class RequestRows(NamedTuple):
    """What a kernel is called with. table_RT: int32 slots. rows_B: int64, rows of it. lens_B: int64, keys a row."""

    table_RT: Any
    rows_B: Any
    lens_B: Any


def _handed(backend: Any, layer: Any, forward_batch: Any, handed: RequestRows) -> Handed | None:
    if getattr(layer, "is_cross_attention", False):
        return None
    step = _draft_step(backend)
    source = backend.req_to_token_pool.req_to_token if step is None else step[0]
    longest, mode, rows_B = int(handed.lens_B.max()), forward_batch.forward_mode, forward_batch.req_pool_indices.long()
    branches = len(handed.lens_B) // max(len(rows_B), 1)
    return Handed(
        table_BP=handed.table_RT[handed.rows_B.long(), :longest],
        lengths_B=handed.lens_B.int(),
        rows_B=rows_B.repeat_interleave(branches) if branches > 1 else rows_B,
        space=IndexSpace.FULL_SLOT if handed.table_RT.data_ptr() == source.data_ptr() else IndexSpace.SWA_SLOT,
        is_copy=False,
        is_graph=False,
        queries=shortest_query(forward_batch, int(backend.num_draft_tokens or 1) if mode.is_target_verify() else 1),
        by_slot=True,
        is_bound_only=branches > 1,
    )


def _draft_step(backend: Any) -> Any:
    """(table, lengths, rows) of a step of a multi-step draft, whose table is a copy; None for any other forward."""
    return getattr(backend, "draft_decode_metadata", None)


def _keys_B(backend: Any, forward_batch: Any, serves_frozen_draft: bool) -> Any:
    del serves_frozen_draft  # whose batch has the lengths that it reads
    if _draft_step(backend) is not None:
        return None
    lens_B = forward_batch.seq_lens
    return lens_B + int(backend.num_draft_tokens) if forward_batch.forward_mode.is_target_verify() else lens_B


def _call(attribute: str, first: int) -> KernelCall:
    """A kernel of torch.ops, which the backend keeps; table, rows and lengths are its arguments from `first` on."""

    def table(*args: Any, **kwargs: Any) -> RequestRows | None:
        return RequestRows(*args[first : first + 3]) if len(args) > first + 2 else None

    # What is handed on is never another one: the check that makes such copies is of a GPU.
    return KernelCall(table, lambda handed, args, kwargs: (args, kwargs), attribute=attribute)


ATTENTION = Attention(
    name="intel_amx",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(_call("decode_attention_fwd", 10), _call("extend_attention_fwd", 8)),
    forwards=(Point(f"{_BACKEND}.forward_decode", _FORWARD), Point(f"{_BACKEND}.forward_extend", _FORWARD)),
    handed=_handed,
    metadata_is_graph=lambda backend: False,
    swa_state=lambda backend: backend.token_to_kv_pool if backend.use_sliding_window_kv_pool else None,
    graph_tables=lambda backend: None,
    keys_B=_keys_B,
)
