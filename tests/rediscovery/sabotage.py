"""Faults that nobody had, put under the allocator's probes: what the machine must notice, one trap or claim each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

from g4diag.hooks.anchors import has_module
from g4diag.hooks.install import Hook

OWNER = "sglang.srt.mem_cache.allocator.swa.SWATokenToKVPoolAllocator"
EVICT = "sglang.srt.managers.schedule_batch.ScheduleBatch._evict_swa"
FILTER = "sglang.srt.managers.schedule_batch.ScheduleBatch.filter_batch"
PAGED = "sglang.srt.mem_cache.allocator.paged.PagedTokenToKVPoolAllocator"


def keeps_mapping_on_free_swa(original: Any, allocator: Any, index: Any) -> None:
    swa = allocator.full_to_swa_index_mapping[index]
    allocator.swa_attn_allocator.free(swa[swa > 0])


def clears_first_slot_only(original: Any, allocator: Any, index: Any) -> None:
    """Near sglang #27779: pages are freed, and of each only the first slot is unmapped."""
    keeps_mapping_on_free_swa(original, allocator, index)
    allocator.full_to_swa_index_mapping[index[:: allocator.page_size]] = 0


def hands_out_the_page_before(original: Any, allocator: Any, *args: Any, **kwargs: Any) -> Any:
    handed = original(allocator, *args, **kwargs)
    return None if handed is None else handed - allocator.page_size


def hands_out_swa_pages_past_the_pool(original: Any, allocator: Any, *args: Any, **kwargs: Any) -> Any:
    handed = original(allocator, *args, **kwargs)
    return None if handed is None else handed + allocator.size


def hands_out_the_dummy_page(original: Any, allocator: Any, *args: Any, **kwargs: Any) -> Any:
    handed = original(allocator, *args, **kwargs)
    return None if handed is None else handed % allocator.page_size


def starts_with_a_page_past_the_pool(result: Any, allocator: Any, *args: Any, **kwargs: Any) -> None:
    allocator.full_attn_allocator.free_pages[-1] += 1


def forgets_swa_on_free(original: Any, allocator: Any, index: Any) -> None:
    allocator.full_attn_allocator.free(index)


def frees_one_page_only(original: Any, allocator: Any, index: Any) -> None:
    original(allocator, index[:1])


def evicts_a_page_early(original: Any, batch: Any, req: Any, pre_len: int, **named: Any) -> None:
    """A page past the margin by which eviction stays behind, and another."""
    cache = batch.tree_cache
    original(batch, req, pre_len + min(2 * cache.page_size, cache.sliding_window_size), **named)


def keeps_those_who_left(original: Any, batch: Any, *args: Any, **named: Any) -> None:
    """A batch that was prepared before is run as it was, over a request row that another has by now."""


def has_pages_of_twice_the_size(runner: Any, *args: Any, **named: Any) -> None:
    """An EAGLE draft counts in larger pages than the allocator hands out: its tables, and in 0.5.13 its pool. Not in
    pages of 128, for which 0.5.23 builds no such backend."""
    if runner.is_draft_worker and runner.page_size < 64:
        runner.page_size *= 2


def before_the_draft_has_its_pool(function: Callable[..., None]) -> tuple[Hook, ...]:
    """The fault where sglang makes the pool of a runner that is told its sizes, which only an EAGLE draft's is here."""
    mixin = "sglang.srt.model_executor.model_runner_kv_cache_mixin"
    if has_module(mixin):
        return (Hook(f"{mixin}.ModelRunnerKVCacheMixin._apply_memory_pool_config", "before", function),)
    return (Hook("sglang.srt.model_executor.model_runner.ModelRunner.init_kv_cache_configurator", "before", function),)


def of_swa_side(call: str, function: Callable[..., Any]) -> tuple[Hook, ...]:
    """The fault around a call of the paged allocator, where that is the SWA side of an owner."""
    swa_side: WeakSet[Any] = WeakSet()

    def built(result: Any, owner: Any, *args: Any, **kwargs: Any) -> None:
        swa_side.add(owner.swa_attn_allocator)

    def around(original: Any, allocator: Any, *args: Any, **kwargs: Any) -> Any:
        return (partial(function, original) if allocator in swa_side else original)(allocator, *args, **kwargs)

    return Hook(f"{OWNER}.__init__", "after", built), Hook(f"{PAGED}.{call}", "around", around)
