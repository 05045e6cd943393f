"""What paged and token allocators hand out and take back: Allocation, Release and, now and then, FreeList views.

Both sub-allocators of a hybrid-SWA server are such; which of the two one is, is learnt when their owner is built.
A book of live pages is kept for each, apart from its free list: reset by `clear`, put back by `restore_state` to what
it was at `backup_state`, when the free list is held against it; a free inside a free group counts at the group's end,
where sglang calls `free` again.
Cost on a GPU: one asynchronous copy to pinned memory a step and no sync; views are judged at the end of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import Allocation, FreeList, IndexSpace, MappingUpdate, PoolView, Release
from g4diag.stack.probes.async_copies import Arrivals
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.probes.free_groups import FreeGroups
from g4diag.stack.probes.live_pages import LivePages
from g4diag.stack.probes.mapping_update import MappingUpdateProbe
from g4diag.stack.releases import current

_CALLS = {"paged": ("alloc", "alloc_extend", "alloc_decode"), "token": ("alloc",)}
VIEWS: frozenset[type] = frozenset({Allocation, Release, FreeList, MappingUpdate})
_JUDGING = guard("judging an allocator's call")
STOCK_EVERY, STOCK_EVERY_RESTORE = 256, 64


@dataclass(slots=True)
class _Met:
    """An allocator that was called: its bounds and book, in one look. handed: what it returned last, until that is
    asked for. is_seen: whether its free list was copied since it was called."""

    pool: PoolView
    book: LivePages
    handed: Any = None
    is_seen: bool = True


class AllocationProbe:
    """sink takes each view. An allocator that had no room returns nothing, and there is no view. wanted: the view
    classes to make. stock_every: calls on an allocator between two copies of its free list. keeps: an allocator that
    is given up stays until `settle` has looked at it."""

    def __init__(
        self,
        sink: Callable[[Any], None],
        wanted: Collection[type] = VIEWS,
        stock_every: int = STOCK_EVERY,
        keeps: bool = False,
    ) -> None:
        self._sink, self._wanted, self._stock_every = sink, frozenset(wanted), stock_every
        self._swa: WeakSet[Any] = WeakSet()
        self._books: WeakKeyDictionary[Any, LivePages] = WeakKeyDictionary()
        self._met: WeakKeyDictionary[Any, _Met] = WeakKeyDictionary()
        self._backups: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._restores: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        # Called since their free list was last copied.
        self._unseen: set[Any] | WeakSet[Any] = set() if keeps else WeakSet()
        self._pools: WeakKeyDictionary[Any, PoolView] = WeakKeyDictionary()
        self.arrivals = Arrivals()
        self._mapping = MappingUpdateProbe(sink, self.arrivals, self._handed)
        self._groups = FreeGroups(sink, self.arrivals)

    def hooks(self) -> list[Hook]:
        """Every call that hands out slots, takes them back or starts anew, and the constructor that says which
        allocator is the SWA one."""
        release = current()
        places: list[tuple[str, Callable[..., None]]] = [("swa.built", self._built)]
        for kind, calls in _CALLS.items():
            places += [(f"{kind}.{call}", self._after(call)) for call in calls]
            places.append((f"{kind}.clear", self._cleared))
        places.append(("token.free", self._freed))
        # Pages come back through `free`, or in later releases all through one other place.
        in_pages = release.has("paged.release_page_ids")
        places.append(("paged.release_page_ids", self._released) if in_pages else ("paged.free", self._freed))
        backups: tuple[tuple[str, Callable[..., None]], ...] = (
            ("allocator.backup_state", self._backed_up),
            ("allocator.restore_state", self._restored),
            ("swa.restore_state", self._both_restored),
        )
        # Later releases have neither: speculation no longer puts an allocator back.
        places += [(name, function) for name, function in backups if release.has(name)]
        hooks = [release.hook(name, "after", function) for name, function in places]
        return [*hooks, *self._mapping.hooks(), *self._groups.hooks()] if MappingUpdate in self._wanted else hooks

    def catch_up(self, idle: bool) -> None:
        """Judge the calls that have arrived; fetch those made since. idle: nothing else is to be done."""
        if idle:
            self.arrivals.finish()
        else:
            self.arrivals.drain()
            self.arrivals.flush()

    def settle(self) -> None:
        """Judge every call made so far, and the free list of every allocator that was called since it was last looked
        at. Waits for the device: for when a server idles or a test ends."""
        self.arrivals.finish()
        if FreeList in self._wanted:
            for allocator in list(self._unseen):
                self._copy_free_list(allocator)
            self.arrivals.finish()

    def _built(self, result: Any, owner: Any, *args: Any, **kwargs: Any) -> None:
        self._swa.add(owner.swa_attn_allocator)
        for known in (self._pools, self._met):
            known.pop(owner.swa_attn_allocator, None)  # met while it was built, and taken for a full one

    def _after(self, call: str) -> Callable[..., None]:
        def observed(slots: Any, allocator: Any, *args: Any, **kwargs: Any) -> None:
            if slots is None or not slots.numel():
                return
            met = self._met.get(allocator) or self._meet(allocator, begun=slots)
            met.handed, pool, book = slots, met.pool, met.book

            def arrived(slots_N: Any) -> None:
                self._emit(Allocation(call, pool, slots_N, live_pages_N=book.take(slots_N)))

            self.arrivals.copy([slots], arrived)
            self._take_stock(allocator, met)

        return observed

    def _freed(self, result: Any, allocator: Any, free_index: Any) -> None:
        if free_index.numel() and not current().read.is_deferred(allocator):
            self._given_back(allocator, free_index)

    def _released(self, result: Any, allocator: Any, *page_ids: Any) -> None:
        for pages in page_ids:
            if pages.numel():
                self._given_back(allocator, pages * allocator.page_size)

    def _given_back(self, allocator: Any, slots: Any) -> None:
        met = self._met.get(allocator) or self._meet(allocator, given_back=slots)
        pool, book = met.pool, met.book

        def arrived(slots_N: Any) -> None:
            self._emit(Release(pool, slots_N, live_pages_N=book.give_back(slots_N)))

        self.arrivals.copy([slots], arrived)
        self._take_stock(allocator, met)

    def _cleared(self, result: Any, allocator: Any) -> None:
        self.arrivals.copy([], self._new_book(allocator).clear)

    def _backed_up(self, state: Any, allocator: Any) -> None:
        if (book := self._books.get(allocator)) is not None:
            self._backups[allocator] = state
            self.arrivals.copy([], book.save)

    def _restored(self, result: Any, allocator: Any, state: Any) -> None:
        if (book := self._books.get(allocator)) is None:
            return
        known = self._backups.get(allocator, ())
        if len(known) == len(state) and all(mine is theirs for mine, theirs in zip(known, state, strict=True)):
            self.arrivals.copy([], book.restore)
        else:
            self.arrivals.copy(state, lambda *free: book.all_but(np.concatenate(free)))
        restores = self._restores[allocator] = self._restores.get(allocator, 0) + 1
        if FreeList in self._wanted and restores % STOCK_EVERY_RESTORE == 1:
            self._copy_free_list(allocator)

    def _both_restored(self, result: Any, owner: Any, state: Any) -> None:
        """Both sides were to be put back, whether each was or not."""
        for allocator, part in zip((owner.full_attn_allocator, owner.swa_attn_allocator), state, strict=True):
            self._restored(None, allocator, part)

    def _meet(self, allocator: Any, begun: Any = None, given_back: Any = None) -> _Met:
        met = self._met[allocator] = _Met(self._pool(allocator), self._book(allocator, begun, given_back))
        return met

    def _handed(self, allocator: Any) -> Any:
        """What this sub-allocator returned last, once; None for nothing."""
        if (met := self._met.get(allocator)) is None:
            return None
        slots, met.handed = met.handed, None
        return slots

    def _book(self, allocator: Any, begun: Any = None, given_back: Any = None) -> LivePages:
        """The allocator's book. First met in mid-life, its free list of now, with this call undone, begins it."""
        if (book := self._books.get(allocator)) is not None:
            return book
        book = self._new_book(allocator)

        def begin(slots_N: Any, *free: Any) -> None:
            book.all_but(np.concatenate(free))
            starts = slots_N[slots_N % book.page_size == 0]
            book.give_back(starts) if begun is not None else book.take(slots_N)

        call = begun if begun is not None else given_back
        self.arrivals.copy([call, *current().read.free_lists(allocator)], begin)
        return book

    def _new_book(self, allocator: Any) -> LivePages:
        pool = self._pool(allocator)
        return self._books.setdefault(allocator, LivePages(pool.page_size, pool.num_pages))

    def _take_stock(self, allocator: Any, met: _Met) -> None:
        met.book.calls += 1
        if met.is_seen:
            met.is_seen = False
            self._unseen.add(allocator)
        if met.book.calls % self._stock_every == 0 and FreeList in self._wanted:
            self._copy_free_list(allocator)

    def _copy_free_list(self, allocator: Any) -> None:
        pool, book = self._pool(allocator), self._books[allocator]
        self._unseen.discard(allocator)
        if (met := self._met.get(allocator)) is not None:
            met.is_seen = True

        def arrived(*free: Any) -> None:
            self._emit(FreeList(replace(pool, free_pages_N=np.concatenate(free)), book.all()))

        self.arrivals.copy(current().read.free_lists(allocator), arrived)

    def _emit(self, view: Any) -> None:
        if type(view) in self._wanted:
            with _JUDGING:
                self._sink(view)

    def _pool(self, allocator: Any) -> PoolView:
        """Its bounds: page 0, or slot 0 of an unpaged one, is the dummy, so one page more than it hands out."""
        if (known := self._pools.get(allocator)) is not None:
            return known
        is_swa = allocator in self._swa
        space = IndexSpace.SWA_PAGE if is_swa else IndexSpace.FULL_PAGE
        pages = allocator.size // allocator.page_size + 1
        view = PoolView("swa" if is_swa else "full", space, allocator.page_size, pages)
        self._pools[allocator] = view
        return view


def _make(context: Context, wanted: frozenset[type]) -> AllocationProbe:
    return AllocationProbe(context.sink, wanted, context.stock_every, context.keeps)


PROBE = Probe("allocation", VIEWS, _make, of_backends=False)
