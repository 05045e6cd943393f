"""What an SWA allocator should look like from outside: a dict of requests and two sets of pages.

Pages, not slots, are owned: sglang frees a whole page when any slot of it is freed. So a request frees either
all it has or a page-aligned prefix of its SWA side (the window moved on).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from g4diag.model import IntArray


@dataclass
class Request:
    """One request. slots: full slots in position order. evicted: leading tokens without an SWA slot by now."""

    slots: list[int] = field(default_factory=list)
    evicted: int = 0

    @property
    def last_loc(self) -> int:
        """What sglang passes as last_loc: -1 for a request without tokens."""
        return self.slots[-1] if self.slots else -1


class SwaModel:
    """The reference. swa_of: full page -> SWA page for every live page still in its window."""

    def __init__(self, page_size: int, full_pages: int, swa_pages: int) -> None:
        self.page_size = page_size
        self.full_ids = set(range(1, full_pages + 1))
        self.swa_ids = set(range(1, swa_pages + 1))
        self.requests: dict[int, Request] = {}
        self.swa_of: dict[int, int] = {}
        self.freed_once: set[int] = set()
        self.coverage: Counter[str] = Counter()
        self._next_rid = 0

    def admit(self) -> int:
        """A new request without tokens; its rid."""
        self._next_rid += 1
        self.requests[self._next_rid] = Request()
        return self._next_rid

    @property
    def full_live(self) -> set[int]:
        return {slot // self.page_size for request in self.requests.values() for slot in request.slots}

    @property
    def full_free(self) -> set[int]:
        return self.full_ids - self.full_live

    @property
    def swa_free(self) -> set[int]:
        return self.swa_ids - set(self.swa_of.values())

    def new_pages(self, chunks: dict[int, int]) -> int:
        """Pages needed to append chunks[rid] tokens to each request."""
        lens = [(len(self.requests[rid].slots), extra) for rid, extra in chunks.items()]
        return sum(-(-(have + extra) // self.page_size) - -(-have // self.page_size) for have, extra in lens)

    def fits(self, pages: int) -> bool:
        return pages <= min(len(self.full_free), len(self.swa_free))

    def append(self, rid: int, full_N: IntArray, swa_N: IntArray) -> None:
        """Record the slots handed to a request, after requiring that they were there to be handed out."""
        request = self.requests[rid]
        for full, swa in zip(full_N.tolist(), swa_N.tolist(), strict=True):
            full_page, offset = divmod(full, self.page_size)
            swa_page, swa_offset = divmod(swa, self.page_size)
            assert swa_offset == offset, f"offset: full slot {full} has SWA slot {swa}"
            if len(request.slots) % self.page_size:
                assert full == request.last_loc + 1, f"order: slot {full} after {request.last_loc} in one page"
                assert self.swa_of[full_page] == swa_page, f"mapping: page {full_page} has two SWA pages"
            else:
                assert offset == 0, f"order: a new page begins at slot {full}"
                assert full_page in self.full_free, f"owner: full page {full_page} was handed out twice"
                assert swa_page in self.swa_free, f"owner: SWA page {swa_page} was handed out twice"
                self.swa_of[full_page] = swa_page
                self.coverage["diverged"] += full_page != swa_page
                self.coverage["recycled"] += full_page in self.freed_once
            request.slots.append(full)

    def evict(self, rid: int, upto: int) -> list[int]:
        """Move a request's window: its full slots whose SWA slots go."""
        request = self.requests[rid]
        gone = request.slots[request.evicted : upto]
        for page in {slot // self.page_size for slot in gone}:
            del self.swa_of[page]
        request.evicted = upto
        self.coverage["window_crossed"] += 1
        return gone

    def free(self, rid: int) -> list[int]:
        """End a request: its full slots, all of them."""
        slots = self.requests.pop(rid).slots
        pages = {slot // self.page_size for slot in slots}
        for page in pages:
            self.swa_of.pop(page, None)
        self.freed_once |= pages
        return slots

    def mapping(self) -> IntArray:
        """full_to_swa_index_mapping as it should be: 0 where nothing lives or the window has passed, -1 last."""
        expected_M = np.zeros((len(self.full_ids) + 1) * self.page_size + 1, dtype=np.int64)
        expected_M[-1] = -1
        for request in self.requests.values():
            slots_N = np.array(request.slots[request.evicted :], dtype=np.int64)
            pages_N = np.array([self.swa_of[page] for page in (slots_N // self.page_size).tolist()], dtype=np.int64)
            expected_M[slots_N] = pages_N * self.page_size + slots_N % self.page_size
        return expected_M
