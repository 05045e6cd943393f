"""A real SWA allocator over a real, tiny pool: what the machines and the tests of allocators stand on."""

from __future__ import annotations

from typing import Any


def int64(values: list[int]) -> Any:
    """A CPU tensor of them."""
    import torch

    return torch.tensor(values, dtype=torch.int64)


def build(page_size: int, full_pages: int, swa_pages: int, need_sort: bool) -> Any:
    """A real allocator over a real pool of one full and one sliding layer, one head of one element."""
    import torch
    from sglang.srt.mem_cache.allocator.swa import SWATokenToKVPoolAllocator
    from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

    sizes = {"size": full_pages * page_size, "size_swa": swa_pages * page_size, "page_size": page_size}
    pool = SWAKVPool(
        **sizes,
        dtype=torch.float32,
        head_num=1,
        head_dim=1,
        swa_attention_layer_ids=[0],
        full_attention_layer_ids=[1],
        enable_kvcache_transpose=False,
        device="cpu",
    )
    return SWATokenToKVPoolAllocator(**sizes, dtype=torch.float32, device="cpu", kvcache=pool, need_sort=need_sort)


def free_pages(sub_allocator: Any) -> list[int]:
    """Ids on a sub-allocator's free list, those waiting to be sorted in included."""
    return [*sub_allocator.free_pages.tolist(), *sub_allocator.release_pages.tolist()]
