"""sglang's triton backend on a CPU: the real TritonAttnBackend and the real calls of its kernels, for which a reference
stands in. Its planning kernels run interpreted.

Slots are pages of one token to the reference. B: rows. N: slots handed. Q: queries. K: heads of keys. D: head dim.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from g4diag.stack.drive.reference_kernel import bound, by_slot, decode_slots, rows_of


def backend(runner: Any, is_mla: bool = False) -> Any:
    """The triton backend for this runner. is_mla: of a model with one pool of compressed K/V."""
    from sglang.srt.layers.attention.triton_backend import TritonAttnBackend

    _ready(runner, is_mla)
    return _with_references(TritonAttnBackend(runner))


def steps_backend(runner: Any, topk: int, steps: int) -> Any:
    """The same for each step of an EAGLE draft with so many branches."""
    from sglang.srt.layers.attention.triton_backend import TritonMultiStepDraftBackend

    _ready(runner, is_mla=False)
    runner.model_config.get_max_num_attention_heads = lambda: runner.model_config.num_attention_heads
    made = TritonMultiStepDraftBackend(runner, topk, steps)
    for each in made.attn_backends:
        _with_references(each)
    return made


def _ready(runner: Any, is_mla: bool) -> None:
    """Give runner and model what it asks of them besides what other backends do."""
    from sglang.srt.configs.model_config import AttentionArch

    config = runner.model_config
    config.attention_arch = AttentionArch.MLA if is_mla else AttentionArch.MHA
    config.is_encoder_decoder = False
    config.v_head_dim = config.swa_v_head_dim = config.head_dim
    config.hf_config.get_text_config = lambda: config.hf_text_config
    config.linear_attn_registry_result = runner._linear_attn_registry_cache = None
    runner.gpu_id = 0


def _with_references(made: Any) -> Any:
    made.decode_attention_fwd = bound(made.decode_attention_fwd, _decode)
    made.extend_attention_fwd = bound(made.extend_attention_fwd, _extend)
    return made


def _decode(
    *,
    q: Any,
    k_buffer: Any,
    v_buffer: Any,
    o: Any,
    kv_indptr: Any,
    kv_indices: Any,
    sm_scale: Any = None,
    sm_scale_withk: Any = None,
    **rest: Any,
) -> None:
    """q, o: [B, H, D]. k_buffer, v_buffer: [slots, K, D]. The window is in the slots: no key of them is left out."""
    scale = sm_scale if sm_scale is not None else sm_scale_withk
    o.copy_(decode_slots(q, (k_buffer, v_buffer), *rows_of(kv_indptr, kv_indices), scale).view_as(o))


def _extend(
    *,
    q_extend: Any,
    k_extend: Any,
    v_extend: Any,
    o_extend: Any,
    k_buffer: Any,
    v_buffer: Any,
    qo_indptr: Any,
    kv_indptr: Any,
    kv_indices: Any,
    sm_scale: float,
    sliding_window_size: int,
    **rest: Any,
) -> None:
    """q_extend, o_extend: [Q, H, D]. k_extend, v_extend: [Q, K, D], the new keys."""
    import torch

    from g4diag.stack.drive.reference import PagedAttention, attend

    table_BN, lens_B = rows_of(kv_indptr, kv_indices)
    caches = by_slot(k_buffer, v_buffer)
    for row, (start, end) in enumerate(pairwise(qo_indptr.tolist())):
        old = PagedAttention().gather(caches, table_BN[row], int(lens_B[row]), 0)
        k, v = (torch.cat([cached, new[start:end]]) for cached, new in zip(old, (k_extend, v_extend), strict=True))
        o_extend[start:end] = attend(q_extend[start:end], k, v, sm_scale, sliding_window_size).to(o_extend.dtype)
