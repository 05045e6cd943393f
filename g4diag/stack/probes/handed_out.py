"""Which SWA slot was handed out with each full slot, written down when it is, apart from the mapping itself.

A tensor a pool, where its mapping lies: what the SWA allocator returned goes in when its owner's call returns, and what
is freed goes out, by whole pages, as pages come back. Written by the same stream as the mapping, so nothing waits.
A call of `set_full_to_swa_mapping` hands out too: a prefix cache gives a page another SWA half so. A backup that is
put back leaves the mapping, and so this, as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from g4diag.hooks.install import Hook
from g4diag.model import IntArray
from g4diag.stack.releases import current

_OF_SUBS = {"paged": ("alloc", "alloc_extend", "alloc_decode"), "token": ("alloc",)}
_CALLS = ("alloc", "alloc_extend", "alloc_decode", "alloc_extend_swa_tail")
NOT_KNOWN = -2
# Of this process: a CUDA graph holds it, and outlives whoever was armed when that was captured.
_TENSORS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_UNMAP = ("free_swa", "free_swa_segment", "clear_full_to_swa_mapping")


@dataclass(frozen=True)
class _Kept:
    """slots_M: int64, of each full slot the SWA slot handed out with it, 0 for none; as long as the mapping. at: where
    the mapping lies, which tells it in a pool that only shares it. host_M: the same memory for numpy, whose calls take
    a fraction of torch's; None on a device. pages: by page size, a view of whole pages, of host_M, if any; and where
    that is none the page size beside it, int64 [1] there."""

    slots_M: Any
    at: int
    host_M: Any
    pages: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def whole_pages(self, page_size: int) -> tuple[Any, Any]:
        """`pages` of this size."""
        if (known := self.pages.get(page_size)) is None:
            whole_M = self.slots_M[: (len(self.slots_M) - 1) // page_size * page_size].view(-1, page_size)
            on_host = self.host_M is not None
            # Filled on the device: a number copied there is waited for.
            known = (whole_M.numpy(), None) if on_host else (whole_M, self.slots_M.new_full((1,), page_size))
            self.pages[page_size] = known
        return known


class HandedOut:
    """Of every hybrid SWA allocator that is seen while the hooks are on. `of` finds it by the pool."""

    name = "mapping"

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()
        self._last: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def hooks(self) -> list[Hook]:
        """Every call that hands out slots, frees them or writes the mapping. What was kept is forgotten: nobody knows
        what happened while they were off."""
        self._kept.clear()
        release = current()
        places: list[tuple[str, Callable[..., None]]] = [("swa.built", self._began), ("swa.clear", self._began)]
        places += [(f"{kind}.{call}", self._sub_returned) for kind, calls in _OF_SUBS.items() for call in calls]
        places += [(f"swa.{call}", self._returned) for call in _CALLS]
        places += [("swa.set_full_to_swa_mapping", self._was_set), ("swa.free", self._freed)]
        places += [(f"swa.{call}", self._unmapped) for call in _UNMAP if release.has(f"swa.{call}")]
        begun = [release.hook(f"swa.{call}", "before", self._begins) for call in _CALLS]
        return [*begun, *(release.hook(name, "after", function) for name, function in places)]

    def slots(self, pool: Any, full: IntArray) -> IntArray | None:
        """int64, of each full slot (any shape, a host array) the SWA slot handed out with it: 0 for none, -1 outside.
        None where nobody wrote it down. Waits for the device, where the pool is on one."""
        kept = self._of(pool)
        if kept is None:
            return None
        inside = full.astype(np.uint64) < len(kept.slots_M) - 1  # below 0 is far above any bound, without a sign
        if kept.host_M is not None and np.count_nonzero(inside) == inside.size:
            found: IntArray = kept.host_M[full]
            return found
        at = np.where(inside, full, 0)
        return np.where(inside, kept.slots_M[kept.slots_M.new_tensor(at)].cpu().numpy(), -1)

    def owners(self, pool: Any, swa: IntArray, page_size: int) -> IntArray | None:
        """int64, of each SWA page (any shape) the full page that it was handed out with, 0 for none. Copies all of what
        is kept to the host: for where something is wrong."""
        kept = self._of(pool)
        if kept is None:
            return None
        pages_N = kept.slots_M[:-1:page_size].cpu().numpy() // page_size
        found = {int(page): full for full, page in enumerate(pages_N) if page > 0}
        return np.array([found.get(int(page), 0) for page in swa.ravel()], dtype=np.int64).reshape(swa.shape)

    def tensor(self, pool: Any) -> Any:
        """int64[M] on the device: of each full slot the SWA slot handed out with it, 0 for none, NOT_KNOWN once nobody
        writes it down. It is written to in place for as long as the pool has its mapping. None where nobody wrote any
        down."""
        kept = self._of(pool)
        return None if kept is None else kept.slots_M

    def forget(self) -> None:
        """The hooks go: what captured checks still point to says so."""
        for kept in self._kept.values():
            kept.slots_M.fill_(NOT_KNOWN)
        self._kept.clear()

    def _of(self, pool: Any) -> _Kept | None:
        if pool is None:
            return None
        if (kept := self._kept.get(pool)) is not None:
            return kept
        mapping = getattr(pool, "full_to_swa_index_mapping", None)
        if mapping is None:
            return None
        return next((kept for kept in self._kept.values() if kept.at == mapping.data_ptr()), None)

    def _began(self, result: Any, owner: Any, *args: Any, **kwargs: Any) -> None:
        self._keep(owner).slots_M.zero_()

    def _begins(self, owner: Any, *args: Any, **kwargs: Any) -> None:
        """What was taken from the sub-allocator by itself is not this call's."""
        self._last.pop(owner.swa_attn_allocator, None)

    def _sub_returned(self, slots: Any, allocator: Any, *args: Any, **kwargs: Any) -> None:
        self._last[allocator] = slots

    def _returned(self, full: Any, owner: Any, *args: Any, **kwargs: Any) -> None:
        swa = self._last.pop(owner.swa_attn_allocator, None)
        if full is None or not full.numel():
            return
        kept = self._keep(owner)
        slots_M, host_M = kept.slots_M, kept.host_M
        # Only the last of an extend may have SWA slots; none has any where a request keeps a ring of its own.
        given, tail = full.numel(), 0 if swa is None else swa.numel()
        before = given - tail if tail <= given else given
        if host_M is not None:
            full = full.numpy()
            if before:
                host_M[full[:before]] = 0
            if before < given:
                host_M[full[before:] if before else full] = swa.numpy()
            return
        if before:
            slots_M.index_fill_(0, full[:before].long(), 0)
        if before < given:
            slots_M[(full[before:] if before else full).long()] = swa.long()

    def _was_set(self, result: Any, owner: Any, full: Any, swa: Any) -> None:
        if full.numel():
            self._keep(owner).slots_M[full.long()] = swa.long()

    def _freed(self, result: Any, owner: Any, free_index: Any) -> None:
        # In a free group it is only put aside, and comes again, or is done already by `free_swa`.
        if not current().read.is_deferred(owner):
            self._unmap(owner, free_index)

    def _unmapped(self, result: Any, owner: Any, free_index: Any, *args: Any, **kwargs: Any) -> None:
        if not current().read.is_swa_deferred(owner):
            self._unmap(owner, free_index)

    def _unmap(self, owner: Any, full: Any) -> None:
        if not full.numel():
            return
        kept, page = self._keep(owner), owner.page_size
        pages, page_1 = kept.whole_pages(page)
        if kept.host_M is not None:
            pages[full.numpy() // page] = 0
        else:
            pages.index_fill_(0, full // page_1, 0)  # int64 of whatever it was, in the same launch

    def _keep(self, owner: Any) -> _Kept:
        """An allocator that is first met in mid-life begins with the mapping as it is, this call's part included."""
        pool, mapping = owner.get_kvcache(), owner.full_to_swa_index_mapping
        kept = self._kept.get(pool)
        if kept is None or kept.slots_M.shape != mapping.shape:
            import torch

            with torch.inference_mode(False):  # or it could not be written to outside of it
                slots_M = _TENSORS.get(pool)
                if slots_M is None or slots_M.shape != mapping.shape or slots_M.device != mapping.device:
                    slots_M = _TENSORS[pool] = mapping.detach().clone()
                else:
                    slots_M.copy_(mapping)
                host_M = slots_M.numpy() if slots_M.is_cpu else None
                kept = self._kept[pool] = _Kept(slots_M, mapping.data_ptr(), host_M)
        return kept
