"""Intel's AMX backend without its kernels, which are compiled: the real IntelAMXAttnBackend and its real calls, for
which a reference stands in. On a machine that has them it is the same.

B: rows. Q: queries. K: heads of keys. D: head dim. R, T: rows and tokens of the request table.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from g4diag.errors import CannotRunError
from g4diag.stack.drive import sgl_kernel_stand_in
from g4diag.stack.drive.reference_kernel import by_slot, decode_slots

_KERNELS = ("decode_attention_cpu", "extend_attention_cpu")


def backend(runner: Any, steps: int = 0) -> Any:
    """The AMX backend for this runner. steps: of an EAGLE draft, whose multi-step backend gives its first step the
    request table with one key more; its builder, which would copy the rows, is compiled too. CannotRunError where the
    installed release does not let it be built."""
    import torch

    if not sgl_kernel_stand_in.is_needed():
        raise CannotRunError("intel_amx without its kernels: wanted a release whose sgl_kernel can be stood in for")
    from sglang.srt.layers.attention.intel_amx_backend import IntelAMXAttnBackend

    runner.use_mla_backend = False
    for name in _KERNELS:
        if not hasattr(torch.ops.sgl_kernel, name):
            setattr(torch.ops.sgl_kernel, name, None)
    made = IntelAMXAttnBackend(runner)
    made.decode_attention_fwd, made.extend_attention_fwd = partial(_decode, made), _extend
    if steps:
        plan = made.init_forward_metadata

        def init_forward_metadata(batch: Any) -> None:
            plan(batch)
            drafts = batch.forward_mode.is_decode() and batch.spec_info is not None
            step = (made.req_to_token_pool.req_to_token, batch.seq_lens + 1, batch.req_pool_indices)
            made.draft_decode_metadata = step if drafts else None

        made.init_forward_metadata = init_forward_metadata
    return made


def _decode(
    backend: Any,
    q: Any,
    k_buffer: Any,
    v_buffer: Any,
    k_scale: float,
    v_scale: float,
    o: Any,
    k: Any,
    v: Any,
    slots: Any,
    logits: Any,
    table_RT: Any,
    rows_B: Any,
    lens_B: Any,
    scale: float,
    logit_cap: float,
    is_cross: bool,
    window: int,
    *rest: Any,
) -> None:
    """q, o: [B, H, D]. k, v: [B, K, D] to be written to `slots` first, None where they are there. window: keys that a
    query sees, itself included, 0 for all."""
    if k is not None:
        _write(
            backend.token_to_kv_pool,
            slots,
            *((new.view(-1, *b.shape[1:]), b) for new, b in ((k, k_buffer), (v, v_buffer))),
        )
    buffers = k_buffer, v_buffer
    o.copy_(decode_slots(q, buffers, table_RT[rows_B.long()], lens_B, scale, window - 1).view_as(o))


def _write(pool: Any, slots: Any, keys: tuple[Any, Any], values: tuple[Any, Any]) -> None:
    """What the kernel does with new K and V, [B, K, D], in the buffer that goes with each."""
    for new, buffer in (keys, values):
        buffer[slots] = new
    if (logical := getattr(pool, "g4diag_logical", None)) is not None:
        layers = range(pool.start_layer, pool.start_layer + pool.layer_num)
        address = keys[1].data_ptr()
        layer = next(layer for layer in layers if pool.get_key_buffer(layer).data_ptr() == address)
        logical.record(layer, keys[0], values[0])


def _extend(
    q: Any,
    k: Any,
    v: Any,
    o: Any,
    k_buffer: Any,
    v_buffer: Any,
    k_scale: float,
    v_scale: float,
    table_RT: Any,
    rows_B: Any,
    lens_B: Any,
    new_B: Any,
    starts_B: Any,
    longest: int,
    scale: float,
    logit_cap: float,
    is_cross: bool,
    window: int,
    *rest: Any,
) -> None:
    """q, o: [Q, H, D]. The new keys are in the pool by now."""
    from g4diag.stack.drive.reference import PagedAttention, attend, first_key

    ends = list(accumulate(new_B.tolist(), initial=0))
    for row, (start, end) in enumerate(pairwise(ends)):
        keys = int(lens_B[row])
        first = first_key(keys, end - start, window - 1)
        table_T = table_RT[int(rows_B[row])]
        k_row, v_row = PagedAttention().gather(by_slot(k_buffer, v_buffer), table_T, keys, first)
        o[start:end] = attend(q[start:end], k_row, v_row, scale, window - 1).to(o.dtype)
