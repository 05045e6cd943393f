"""sglang's SWATokenToKVPoolAllocator and its mapping, over a real, tiny SWAKVPool on the CPU.

What a server does to it, in any order: admit, chunked extend, decode, speculative over-allocation and rejection,
window eviction, tail-only SWA allocation, free, in every way the release has, free groups, retract, clear, and where it
has them backup and restore.
As the scheduler does, a decode is asked for only when it fits: `alloc_decode` keeps a page of one pool when the other
refuses, in 0.5.13 and 0.5.23 (tests/fuzz pins that), and in 0.5.13 launches its kernel before it looks at the free
list.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition

from g4diag.fuzz.contract import Books, Machine, Sink
from g4diag.fuzz.rules import initialize, rule
from g4diag.fuzz.strategies import lengths, of_release, pool_pages, requests, tokens
from g4diag.fuzz.swa_invariants import SwaInvariants
from g4diag.hooks.install import Hook
from g4diag.stack.drive import swa_pool
from g4diag.stack.drive.allocation_kernels import launch_kernels, switchable, use_interpreter
from g4diag.stack.drive.swa_pool import back_up, build, int64, put_back

_PAGE_SIZES = (1, 16, 32, 64)
_WAYS = of_release(way=swa_pool.ways_to_free)
_someone_lives = precondition(lambda self: self.model.requests)
_a_backup_can_be_made = precondition(lambda self: self.model.requests and swa_pool.can_back_up())
_full_house = precondition(lambda self: not (self.model.full_free and self.model.swa_free))
_paged = precondition(lambda self: self.page_size > 1)


class SwaAllocatorMachine(SwaInvariants):
    """The allocator under the calls of a scheduler, beside a model that is two sets and a dict."""

    @initialize(
        page_size=st.sampled_from(_PAGE_SIZES),
        pages=pool_pages(),
        window_pages=st.integers(0, 2),
        need_sort=st.booleans(),
        interpreted=st.booleans(),
    )
    def start(
        self, page_size: int, pages: tuple[int, int], window_pages: int, need_sort: bool, interpreted: bool
    ) -> None:
        use_interpreter(interpreted)
        self.page_size, self.window, self.need_sort = page_size, window_pages * page_size + 1, need_sort
        self.allocator = self.call(build, page_size, *pages, need_sort)
        if interpreted and page_size > 1:
            launch_kernels(self.allocator)
        self.model = self.model_of(page_size, *pages)
        self.diverged = 0
        self.cover_page_size(page_size)
        self.cover("interpreted" if interpreted else "fast_kernels")
        self.cover("need_sort", need_sort)

    def live(self) -> list[int]:
        """Ids of the live requests."""
        return sorted(self.model.requests)

    def left_of_window(self, rid: int) -> int:
        """Leading tokens, whole pages of them, that lie wholly left of the request's window."""
        return (self.model.requests[rid].committed - self.window) // self.page_size * self.page_size

    @rule(lengths=lengths(3, 3))
    def admit(self, lengths: list[int]) -> None:
        """First chunks of new requests."""
        self._extend({self.model.admit(): length for length in lengths})

    @_paged
    @rule(length=tokens(4))
    def admit_swa_tail(self, length: int) -> None:
        """A request from a prefill server: SWA pages for the window only, from a page's start."""
        before = max(0, length - self.window) // self.page_size * self.page_size
        wanted = self.model.pages(length), self.model.pages(length - before)
        lens, none = int64([length]), int64([0])
        handed = self.call(
            self.allocator.alloc_extend_swa_tail, none, none, lens, lens, int64([-1]), length, length - before
        )
        self.room("alloc_extend_swa_tail", *wanted, handed)
        if handed is not None:
            self.append({self.model.admit(): length}, handed, before)
            self.cover("swa_tail", before > 0)

    @_someone_lives
    @rule(picked=requests(max_size=2), length=tokens(2))
    def chunk(self, picked: list[int], length: int) -> None:
        """The next chunk of requests in prefill."""
        self._extend(dict.fromkeys(picked, length))

    @_someone_lives
    @rule(picked=requests())
    def decode(self, picked: list[int]) -> None:
        """One token each. If there is no room, requests are retracted, the last first, until there is."""
        while picked and not self.model.fits(self.model.new_pages(dict.fromkeys(picked, 1))):
            self._free(picked.pop())
            self.cover("retracted")
        if picked:
            self._decode(picked)

    @_someone_lives
    @rule(
        picked=requests(max_size=2),
        drafts=tokens(1),
        accepted=st.integers(0, 8),
        kept=st.booleans(),
        **_WAYS,
    )
    def speculate(self, picked: list[int], drafts: int, accepted: int, kept: bool, way: str = "free") -> None:
        """Slots for drafts, then some accepted. kept: the rest stays allocated for the next step, as in the overlap
        worker; else its whole pages are freed."""
        held = {rid: self.model.requests[rid] for rid in picked}
        start = {rid: request.committed for rid, request in held.items()}
        short = {rid: start[rid] + drafts - len(request.slots) for rid, request in held.items()}
        if (chunks := {rid: n for rid, n in short.items() if n > 0}) and not self._extend(chunks):
            return
        for rid, request in held.items():
            request.committed = min(start[rid] + min(accepted, drafts), len(request.slots))
            self.cover("overallocated", kept and request.committed < len(request.slots))
            if not kept and (gone := self.model.reject(rid)):
                self._give_back(way, gone, self.model.pages(request.committed) * self.page_size, request.evicted)
                self.cover("rejected_a_page")

    @_a_backup_can_be_made
    @rule(picked=requests(max_size=2), drafts=tokens(1))
    def borrow(self, picked: list[int], drafts: int) -> None:
        """Slots for a draft block between backup_state and restore_state: the free lists are put back, the mapping
        is not."""
        state = self.call(back_up, self.allocator)
        handed = self._alloc(dict.fromkeys(picked, drafts))
        if handed is not None:
            self.model.loose |= set(handed.tolist())
            self.cover("restored")
        self.call(put_back, self.allocator, state)

    @_someone_lives
    @rule(picked=requests(), **_WAYS)
    def slide(self, picked: list[int], way: str = "free") -> None:
        """free_swa of what lies wholly left of these requests' windows."""
        for rid in picked:
            if (upto := self.left_of_window(rid)) > (start := self.model.requests[rid].evicted):
                free, arguments, named = swa_pool.free_window(
                    way, self.allocator, int64(self.model.evict(rid, upto)), start
                )
                self.call(free, *arguments, **named)
                self.cover("window_crossed")

    @_someone_lives
    @rule(picked=requests(max_size=2), **_WAYS)
    def finish(self, picked: list[int], way: str = "free") -> None:
        """free of whole requests."""
        for rid in picked:
            self._free(rid, way)

    @_someone_lives
    @rule(picked=requests(), meanwhile=st.sampled_from(["nothing", "slide", "admit"]), **_WAYS)
    def finish_together(self, picked: list[int], meanwhile: str, way: str = "free") -> None:
        """free of whole requests in a free group: their pages stay taken until it ends, whatever else happens
        meanwhile."""
        self.call(self.allocator.free_group_begin)
        self.model.begin_group()
        for rid in picked:
            evicted = self.model.requests[rid].evicted
            self._give_back(way, self.model.defer(rid), 0, evicted)
        self.check()
        if meanwhile == "slide":
            self.slide(self.live(), way)
        elif meanwhile == "admit":
            self.admit([self.page_size])
        self.check()
        self.call(self.allocator.free_group_end)
        self.model.settle()
        self.cover("freed_in_group", len(picked))

    @_full_house
    @rule()
    def clear(self) -> None:
        """The cache is flushed."""
        self.call(self.allocator.clear)
        self.model.clear()
        self.cover("cleared")

    def _extend(self, chunks: dict[int, int]) -> bool:
        """More tokens for these requests; whether there was room."""
        handed = self._alloc(chunks)
        if handed is not None:
            self.append(chunks, handed)
        self.model.forget_empty()
        return handed is not None

    def _alloc(self, chunks: dict[int, int]) -> Any:
        """The allocator's answer: slots for chunks[rid] more tokens each, or None."""
        needed, total = self.model.new_pages(chunks), sum(chunks.values())
        if self.page_size == 1:
            handed = self.call(self.allocator.alloc, total)
            return self.room("alloc", needed, needed, handed)
        held = [self.model.requests[rid] for rid in chunks]
        have = [len(request.slots) for request in held]
        prefix, lens = int64(have), int64([n + extra for n, extra in zip(have, chunks.values(), strict=True)])
        last_loc = int64([request.last_loc for request in held])
        handed = self.call(self.allocator.alloc_extend, prefix, prefix, lens, lens, last_loc, total)
        return self.room("alloc_extend", needed, needed, handed)

    def _decode(self, picked: list[int]) -> None:
        batch = dict.fromkeys(picked, 1)
        if self.page_size == 1:
            self._extend(batch)
            return
        held = [self.model.requests[rid] for rid in picked]
        lens = int64([len(request.slots) + 1 for request in held])
        handed = self.call(self.allocator.alloc_decode, lens, lens, int64([request.last_loc for request in held]))
        needed = self.model.new_pages(batch)
        self.append(batch, self.room("alloc_decode", needed, needed, handed))

    def _free(self, rid: int, way: str = "free") -> None:
        evicted = self.model.requests[rid].evicted
        self._give_back(way, self.model.free(rid), 0, evicted)

    def _give_back(self, way: str, slots: list[int], start: int, evicted: int) -> None:
        """Free a request's slots from position `start` on."""
        self.cover("freed_by_row", way == "row")
        for free, arguments, named in swa_pool.free_row(way, self.allocator, int64(slots), start, evicted):
            self.call(free, *arguments, **named)


def _release_goals() -> tuple[str, ...]:
    backup = ("restored",) if swa_pool.can_back_up() else ()
    return (*backup, *("freed_by_row" for way in swa_pool.ways_to_free() if way == "row"))


def _probes(sink: Sink, books: Books) -> list[Hook]:
    from g4diag.stack.probes.allocation import AllocationProbe

    return AllocationProbe(sink, stock_every=4).hooks()


MACHINE = Machine(
    name="swa-allocator",
    subject="SWATokenToKVPoolAllocator and full_to_swa_index_mapping",
    drives=SwaAllocatorMachine,
    goals=(
        *("diverged", "recycled", "window_crossed", "full_exhausted", "swa_exhausted", "last_page", "batched"),
        *("retracted", "rejected_a_page", "overallocated", "swa_tail", "freed_in_group", "cleared"),
        *("need_sort", "interpreted", "fast_kernels"),
    ),
    release_goals=_release_goals,
    oracle=(
        *("slot_inside_allocator", "slot_has_one_owner", "page_is_handed_out_whole", "free_of_live_only"),
        *("free_list_is_free", "page_is_free_or_live", "mapping_follows_allocation"),
    ),
    probes=_probes,
    page_sizes=_PAGE_SIZES,
    surroundings=switchable,
)
