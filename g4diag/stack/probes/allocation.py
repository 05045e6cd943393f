"""An Allocation of every batch of slots that a paged or token allocator returns.

Both sub-allocators of a hybrid-SWA server are such; which of the two one is, is learnt when their owner is built.
The ids are copied to the host, which synchronises on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import numpy as np

from g4diag.guard import guard
from g4diag.model import Allocation, IndexSpace, PoolView
from g4diag.stack.hooks import Hook

PACKAGE = "sglang.srt.mem_cache.allocator"
CALLS = (
    (f"{PACKAGE}.paged.PagedTokenToKVPoolAllocator", ("alloc", "alloc_extend", "alloc_decode")),
    (f"{PACKAGE}.token.TokenToKVPoolAllocator", ("alloc",)),
)


class AllocationProbe:
    """sink takes each view. An allocator that had no room returns nothing, and there is no view."""

    def __init__(self, sink: Callable[[Allocation], None]) -> None:
        self._sink = sink
        self._swa: WeakSet[Any] = WeakSet()

    def hooks(self) -> list[Hook]:
        """Every call that hands out slots, and the constructor that says which allocator is the SWA one."""
        owner = Hook(f"{PACKAGE}.swa.SWATokenToKVPoolAllocator.__init__", "after", self._built, observes=True)
        calls = [
            Hook(f"{holder}.{call}", "after", self._after(call), observes=True)
            for holder, names in CALLS
            for call in names
        ]
        return [owner, *calls]

    def _built(self, result: Any, owner: Any, *args: Any, **kwargs: Any) -> None:
        self._swa.add(owner.swa_attn_allocator)

    def _after(self, call: str) -> Callable[..., None]:
        def observed(slots: Any, allocator: Any, *args: Any, **kwargs: Any) -> None:
            with guard(f"observing {call}"):
                if slots is not None and len(slots):
                    ids_N = slots.detach().cpu().numpy().astype(np.int64)
                    self._sink(Allocation(call, self._pool(allocator), ids_N))

        return observed

    def _pool(self, allocator: Any) -> PoolView:
        """Its bounds: page 0, or slot 0 of an unpaged one, is the dummy, so one page more than it hands out."""
        is_swa = allocator in self._swa
        space = IndexSpace.SWA_PAGE if is_swa else IndexSpace.FULL_PAGE
        pages = allocator.size // allocator.page_size + 1
        return PoolView("swa" if is_swa else "full", space, allocator.page_size, pages)
