"""fa3 with a draft tree (topk above 1): the real FlashAttentionBackend plans and forwards; a reader stands in for its
kernel, and for the merging of an attention's two halves, which are compiled.

`flash_attention_imports` must be around it. T: tokens of the tree. C: committed tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import unwrap
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive import flash_attention
from g4diag.stack.drive.driver import driver

_BACKEND = "sglang.srt.layers.attention.flashattention_backend"


@contextmanager
def fa3_kernel(read: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """For the body fa3's kernel gives zeros and hands `read` what it was called with by name."""
    backend: Any = import_module(_BACKEND)
    kernels: Any = sys.modules[unwrap(backend.flash_attn_with_kvcache).__module__]

    def kernel(q: Any, *caches: Any, return_softmax_lse: bool = False, **given: Any) -> Any:
        read(given)
        out = q.new_zeros(q.shape)
        return (out, out.new_zeros(out.shape[1], len(out))) if return_softmax_lse else out

    original = kernels.fa3_flash_attn_with_kvcache
    kernels.fa3_flash_attn_with_kvcache = kernel
    try:
        with flash_attention.unmerged_halves():
            yield
    finally:
        kernels.fa3_flash_attn_with_kvcache = original


def fa3_backend(serving: Any, topk: int, drafted: int, **draft: Any) -> Any:
    """The backend of the server's runner. topk: branches; 1 for a chain. drafted: tokens of the tree. draft: of a draft
    tree's step, what its multi-step backend makes it with."""
    from sglang.srt.layers.attention.flashattention_backend import FlashAttentionBackend

    runner = serving.runner
    runner.attn_cp_size = 1
    runner.model_config.__dict__.update(attention_arch=None, is_local_attention_model=False)
    driver().change_args(serving.args, speculative_eagle_topk=topk, speculative_num_draft_tokens=drafted)
    return FlashAttentionBackend(runner, **draft)


def verify_batch(serving: Any, rows: list[Any], trees: list[Any]) -> Any:
    """A verify of one tree a request. rows: int64 [C + T] full slots of each, which are put in request rows 1, 2, ..
    trees: bool [T, T], which tokens each token sees."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    drafted = len(trees[0])
    lens, count = torch.tensor([len(slots) - drafted for slots in rows]), drafted * len(rows)
    masks = [
        torch.cat([torch.ones(drafted, int(keys), dtype=torch.bool), tree], dim=1)
        for keys, tree in zip(lens, trees, strict=True)
    ]
    return _batch(
        serving,
        rows,
        lens,
        forward_mode=ForwardMode.TARGET_VERIFY,
        out_cache_loc=torch.cat([slots[-drafted:] for slots in rows]),
        spec_info=SimpleNamespace(
            custom_mask=torch.cat([mask.flatten() for mask in masks]),
            draft_token_num=drafted,
            positions=torch.zeros(count, dtype=torch.int64),
        ),
    )


def draft_batch(serving: Any, rows: list[Any], drafted: int) -> Any:
    """A step of the making of a tree. rows: int64 full slots of each request, the last `drafted` of which are the
    tree's, branch after branch."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    lens = torch.tensor([len(slots) - drafted for slots in rows])
    return _batch(
        serving,
        rows,
        lens,
        forward_mode=ForwardMode.DECODE,
        out_cache_loc=torch.cat([slots[-drafted:] for slots in rows]),
        spec_info=SimpleNamespace(),
    )


def _batch(serving: Any, rows: list[Any], lens_B: Any, **rest: Any) -> Any:
    import torch

    for row, slots in enumerate(rows, start=1):
        serving.request_pool.req_to_token[row, : len(slots)] = slots.to(torch.int32)
    batch: Any = SimpleNamespace(
        batch_size=len(rows),
        req_pool_indices=torch.arange(1, len(rows) + 1),
        seq_lens=lens_B,
        seq_lens_cpu=lens_B,
        encoder_lens=None,
        positions=torch.zeros(len(rest["out_cache_loc"]), dtype=torch.int64),
        seq_lens_sum=int(lens_B.sum()),
        spec_algorithm=SimpleNamespace(is_uno=lambda: False),
        attn_cp_metadata=None,
        **rest,
    )
    driver().bind_plan(serving.runner, batch)
    return batch


def layers(serving: Any) -> dict[bool, Any]:
    """By whether it is a sliding one, an attention layer of the server's model."""
    from sglang.srt.layers.radix_attention import RadixAttention

    found = [module for module in serving.model.modules() if isinstance(module, RadixAttention)]
    return {layer.sliding_window_size > -1: layer for layer in found}


def forward(backend: Any, layer: Any, batch: Any) -> None:
    """The layer's attention over K/V that are there already."""
    import torch

    tokens = len(batch.out_cache_loc) if batch.forward_mode.is_target_verify() else len(batch.seq_lens) * backend.topk
    q = torch.zeros(tokens, layer.tp_q_head_num * layer.head_dim)
    run = backend.forward_decode if batch.forward_mode.is_decode() else backend.forward_extend
    run(q, None, None, layer, batch, save_kv_cache=False)
