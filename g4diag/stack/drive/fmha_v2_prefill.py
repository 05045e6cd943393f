"""TensorRT-LLM's FMHAv2 prefill without its kernel: the real TRTLLMHAAttnBackend and its real call, for which a
reference stands in that reads as the kernel does, by blocks from K's address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from g4diag.stack.drive.reference_kernel import bound

_NAME = "trtllm_fmha_v2_prefill"


@contextmanager
def kernel(prefill: Callable[..., Any]) -> Iterator[None]:
    """For the body FlashInfer's kernel is `prefill`, called as trtllm_batch_context_with_kv_cache is."""
    import flashinfer

    original = getattr(flashinfer.prefill, _NAME)

    def by_page(*, qkv: Any, block_tables: Any, input_layout: Any, **given: Any) -> Any:
        q, kv = qkv
        caches, table_BP = _by_page(kv, block_tables)
        k, v = (cache.transpose(1, 2) for cache in caches)
        return prefill(query=q, kv_cache=(k, v), block_tables=table_BP, **given)

    setattr(flashinfer.prefill, _NAME, bound(original, by_page))
    try:
        yield
    finally:
        setattr(flashinfer.prefill, _NAME, original)


def _by_page(kv: Any, table: Any) -> tuple[tuple[Any, Any], Any]:
    """(K, V), each [blocks, page size, K, D], by the ids of K's blocks, and the table of those. A block that is not in
    the allocation is the last of it."""
    import torch

    if table.dim() == 2:
        return (kv[:, 0], kv[:, 1]), table
    k = kv[0]
    first, size = k.storage_offset(), k.stride(0)
    count = (k.untyped_storage().nbytes() // k.element_size() - first) // size
    blocks = k.as_strided((count, *k.shape[1:]), k.stride(), first)
    of_k, of_v = (table[:, half].long().clamp(0, count - 1) for half in (0, 1))
    v_of_k = torch.zeros(count, dtype=torch.int64)
    v_of_k[of_k] = of_v
    return (blocks, blocks[v_of_k]), table[:, 0]


def prefill_by_blocks(serving: Any, *, offsets: bool) -> None:
    """From now on the server prefills as on SM90 and SM120. offsets: each layer's V lies behind its K; else before it,
    where no offset of theirs gets, and a batch's pages are copied."""
    import torch

    serving.runner.attn_backend.use_fmha_v2 = True
    for pool in (serving.kv_pool.full_kv_pool, serving.kv_pool.swa_kv_pool):
        for layer, (k, v) in enumerate(zip(pool.k_buffer, pool.v_buffer, strict=True)):
            first, second = torch.stack((k, v) if offsets else (v, k))
            pool.k_buffer[layer], pool.v_buffer[layer] = (first, second) if offsets else (second, first)
