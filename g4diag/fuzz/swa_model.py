"""What an SWA allocator should look like from outside: a dict of requests and two sets of pages.

Pages, not slots, are owned: sglang frees a whole page when any slot of it is freed. So a request frees all it has, a
page-aligned prefix of its SWA side (the window moved on), or the whole pages of a rejected tail.
Two things of upstream's leave mapping entries behind that nobody clears: slots of a live page that a speculative step
rejected, and slots taken between backup_state and restore_state. They are rewritten before anyone asks; until then
they are `loose`, and the model says nothing of them. A release that unmaps whole pages clears them with their page.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from g4diag.model import BoolArray, IntArray


@dataclass
class Request:
    """One request. slots: full slots in position order, an over-allocated tail included. committed: leading tokens
    that are accepted. evicted: leading tokens without an SWA slot by now."""

    slots: list[int] = field(default_factory=list)
    committed: int = 0
    evicted: int = 0

    @property
    def last_loc(self) -> int:
        """What sglang passes as last_loc: -1 for a request without tokens."""
        return self.slots[-1] if self.slots else -1


class SwaModel:
    """The reference. swa_of: full page -> SWA page for every live page still in its window. resolves_at_once: a free in
    a free group unmaps at once, and only the pages come back at its end; else all of it happens there, but for the
    window's. whole_pages: freeing unmaps whole pages."""

    def __init__(
        self,
        page_size: int,
        full_pages: int,
        swa_pages: int,
        *,
        resolves_at_once: bool = False,
        whole_pages: bool = False,
    ) -> None:
        self.page_size = page_size
        self.resolves_at_once, self.whole_pages = resolves_at_once, whole_pages
        self.full_ids = set(range(1, full_pages + 1))
        self.swa_ids = set(range(1, swa_pages + 1))
        self.full_free, self.swa_free = set(self.full_ids), set(self.swa_ids)
        self.requests: dict[int, Request] = {}
        self.swa_of: dict[int, int] = {}
        self.freed_once: set[int] = set()
        self.loose: set[int] = set()
        self.deferred: list[Request] = []
        self.swa_pending: set[int] | None = None  # SWA pages that a free group has; None outside of one
        self._next_rid = 0

    def admit(self) -> int:
        """A new request without tokens; its rid."""
        self._next_rid += 1
        self.requests[self._next_rid] = Request()
        return self._next_rid

    def forget_empty(self) -> None:
        """Requests that were given nothing are gone."""
        self.requests = {rid: request for rid, request in self.requests.items() if request.slots}

    def pages(self, tokens: int) -> int:
        """Pages that hold so many tokens."""
        return -(-tokens // self.page_size)

    def new_pages(self, chunks: dict[int, int]) -> int:
        """Pages needed to append chunks[rid] tokens to each request."""
        lens = [(len(self.requests[rid].slots), extra) for rid, extra in chunks.items()]
        return sum(self.pages(have + extra) - self.pages(have) for have, extra in lens)

    def fits(self, full: int, swa: int | None = None) -> bool:
        """Whether both pools have so many pages; swa: as many as full unless told."""
        return full <= len(self.full_free) and (full if swa is None else swa) <= len(self.swa_free)

    def take(self, full: int, swa: int | None) -> None:
        """A page begins. swa: its SWA page, None for a page before the window."""
        self.full_free.remove(full)
        if swa is not None:
            self.swa_free.remove(swa)
            self.swa_of[full] = swa

    def evict(self, rid: int, upto: int) -> list[int]:
        """Move a request's window: its full slots whose SWA slots go."""
        request = self.requests[rid]
        gone = request.slots[request.evicted : upto]
        self._release_swa({slot // self.page_size for slot in gone})
        request.evicted = upto
        return gone

    def reject(self, rid: int) -> list[int]:
        """Take back what was allocated past the committed tokens: the full slots of its whole pages."""
        request = self.requests[rid]
        keep = self.pages(request.committed) * self.page_size
        gone = request.slots[keep:]
        self.loose |= set(request.slots[request.committed : keep])
        del request.slots[request.committed :]
        self._release(gone)
        return gone

    def free(self, rid: int) -> list[int]:
        """End a request: its full slots, all of them."""
        slots = self.requests.pop(rid).slots
        self._release(slots)
        return slots

    def begin_group(self) -> None:
        """A free group begins."""
        self.swa_pending = set() if self.resolves_at_once else None

    def defer(self, rid: int) -> list[int]:
        """End a request inside a free group: its full pages stay live until `settle`, its SWA pages stay live too or
        are in the group."""
        request = self.requests.pop(rid)
        self.deferred.append(request)
        if self.swa_pending is not None:
            self._release_swa({slot // self.page_size for slot in request.slots})
            request.evicted = len(request.slots)
        return request.slots

    def settle(self) -> None:
        """The free group ends."""
        pending, self.swa_pending = self.swa_pending or set(), None
        self.swa_free |= pending
        for request in self.deferred:
            self._release(request.slots)
        self.deferred = []

    def clear(self) -> None:
        """Nothing is live, nothing is mapped."""
        self.freed_once |= self.full_ids - self.full_free
        self.full_free, self.swa_free = set(self.full_ids), set(self.swa_ids)
        self.requests, self.swa_of, self.loose, self.deferred, self.swa_pending = {}, {}, set(), [], None

    def mapping(self) -> tuple[IntArray, BoolArray]:
        """(full_to_swa_index_mapping as it should be, bool mask of the entries that are loose). 0 where nothing
        lives or the window has passed, -1 last."""
        expected_M = np.zeros((len(self.full_ids) + 1) * self.page_size + 1, dtype=np.int64)
        expected_M[-1] = -1
        loose_M = np.zeros(len(expected_M), dtype=np.bool_)
        loose_M[list(self.loose)] = True
        for request in (*self.requests.values(), *self.deferred):
            slots_N = np.array(request.slots[request.evicted :], dtype=np.int64)
            pages_N = np.array([self.swa_of[page] for page in (slots_N // self.page_size).tolist()], dtype=np.int64)
            expected_M[slots_N] = pages_N * self.page_size + slots_N % self.page_size
        return expected_M, loose_M

    def _release(self, slots: list[int]) -> None:
        """Both sides of these slots' pages are free."""
        pages = {slot // self.page_size for slot in slots}
        self.full_free |= pages
        self._release_swa(pages)
        self.freed_once |= pages

    def _release_swa(self, pages: set[int]) -> None:
        """The SWA pages of these full pages, of those that have one, are free, or in the free group."""
        gone = {self.swa_of.pop(page) for page in pages if page in self.swa_of}
        if self.swa_pending is None:
            self.swa_free |= gone
        else:
            self.swa_pending |= gone
        if self.whole_pages:
            self.loose = {slot for slot in self.loose if slot // self.page_size not in pages}
