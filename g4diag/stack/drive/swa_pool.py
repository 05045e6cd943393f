"""Real, tiny allocators, their free lists and their pool: what machines, selftests and tests of allocators stand on."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from g4diag.model import IntArray
from g4diag.stack.drive.driver import driver
from g4diag.stack.releases import current


def int64(values: list[int]) -> Any:
    """A CPU tensor of them."""
    import torch

    return torch.from_numpy(np.array(values, dtype=np.int64))  # in a third of the time of torch.tensor


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
        device="cpu",
        **driver().SWA_POOL_ARGUMENTS,
    )
    return SWATokenToKVPoolAllocator(**sizes, dtype=torch.float32, device="cpu", kvcache=pool, need_sort=need_sort)


def paged(pages: int, page_size: int) -> Any:
    """A PagedTokenToKVPoolAllocator of so many pages, over no pool."""
    import torch
    from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator

    return PagedTokenToKVPoolAllocator(pages * page_size, page_size, torch.float32, "cpu", None, False)


def free_pages(sub_allocator: Any) -> list[int]:
    """Ids on a paged allocator's free list, those waiting to be sorted in included."""
    return [page for pages in current().read.free_lists(sub_allocator) for page in pages.tolist()]


def free_page_ids(sub_allocator: Any) -> IntArray:
    """The same as int64[N], a copy."""
    return np.concatenate([pages.numpy() for pages in current().read.free_lists(sub_allocator)], dtype=np.int64)


def next_pages(sub_allocator: Any) -> list[int]:
    """Ids that a paged allocator hands out next, in order: its free list without those waiting to be sorted in."""
    return list(sub_allocator.free_pages.tolist())


def set_next_pages(sub_allocator: Any, pages: list[int]) -> None:
    """Have a paged allocator hand out these ids next, in order, whatever they are."""
    sub_allocator.free_pages = int64(pages)


@dataclass(frozen=True)
class HowItFrees:
    """Of the installed release's hybrid allocator. resolves_at_once: a free in a free group unmaps at once, and only
    the pages come back at its end. whole_pages: freeing any slot of a page unmaps all of it."""

    resolves_at_once: bool
    whole_pages: bool


def how_it_frees() -> HowItFrees:
    """Asked of the release's driver."""
    scheduling = driver().SCHEDULING
    return HowItFrees(scheduling.FREES_RESOLVE_AT_ONCE, scheduling.UNMAPS_WHOLE_PAGES)


def ways_to_free() -> tuple[str, ...]:
    """How a request's slots may be freed: "free" as a set, "row" as a piece of its row, page by page."""
    return tuple(driver().SCHEDULING.ways_to_free())


def free_row(way: str, allocator: Any, slots: Any, start: int, evicted: int) -> list[tuple[Any, Any, Any]]:
    """What frees a request's slots, int64 [N] from position `start` on, in order: (function, arguments, keywords).
    evicted: its leading tokens whose SWA slots are gone."""
    return list(driver().SCHEDULING.free_row(way, allocator, slots, start, evicted))


def free_window(way: str, allocator: Any, slots: Any, start: int) -> tuple[Any, Any, Any]:
    """The same for the SWA slots alone, of whole pages that have them."""
    function, arguments, named = driver().SCHEDULING.free_window(way, allocator, slots, start)
    return function, arguments, named


def can_back_up() -> bool:
    """Whether this release can back an allocator up and put it back."""
    return current().has("allocator.backup_state")


def back_up(allocator: Any) -> Any:
    """An allocator's free lists, for `put_back`."""
    return allocator.backup_state()


def put_back(allocator: Any, state: Any) -> None:
    """Make the free lists what they were at `back_up`: pages handed out since are free. The mapping stays."""
    allocator.restore_state(state)


def write_zeros(kv_pool: Any, layer_id: int, slot: int, heads: int, head_dim: int, swa_slot: int | None = None) -> None:
    """Write one token's K and V of zeros, float32 [1, heads, head_dim], for a sliding layer. slot: its full slot.
    swa_slot: where, in place of the SWA slot that the pool's mapping says."""
    import torch

    kv, slots = torch.zeros(1, heads, head_dim), int64([slot])
    swa_slots = kv_pool.translate_loc_from_full_to_swa(slots) if swa_slot is None else int64([swa_slot])
    driver().write_kv(kv_pool, SimpleNamespace(layer_id=layer_id), slots, swa_slots, kv, kv)
