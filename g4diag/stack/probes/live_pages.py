"""A book of the pages an allocator has handed out and not been given back, kept apart from its free list.

Kept at page granularity, as sglang frees: any slot of a page frees the page. Host side, one byte a page.
"""

from __future__ import annotations

import numpy as np

from g4diag.model import IntArray

_MANY = 128  # slots from which on numpy is the faster way


class LivePages:
    """page_size: slots a page. num_pages: the dummy page 0 included; ids beyond are ignored, other traps tell. calls:
    how many its keeper has seen."""

    def __init__(self, page_size: int, num_pages: int) -> None:
        self.page_size, self.num_pages, self.calls = page_size, num_pages, 0
        self._marks = bytearray(num_pages)  # the same bytes: Python's indexing of a few is quicker than numpy's
        self._live = np.frombuffer(self._marks, dtype=np.bool_)
        self._saved: IntArray | None = None

    def all(self) -> IntArray:
        """Every live page, ascending."""
        return np.flatnonzero(self._live)

    def of(self, slots_N: IntArray) -> IntArray:
        """The live ones among these slots' pages, ascending."""
        pages = self._pages(slots_N)
        return pages[self._live[pages]]

    def take(self, slots_N: IntArray) -> IntArray:
        """These were handed out. The live ones among their pages before that."""
        return self._turn(slots_N, True)

    def give_back(self, slots_N: IntArray) -> IntArray:
        """These were freed. The live ones among their pages before that."""
        return self._turn(slots_N, False)

    def all_but(self, free_pages_N: IntArray) -> None:
        """Begin anew from a free list: for an allocator first met in mid-life, or put back to a state unknown here."""
        self._live[:] = True
        self._live[0] = False
        self._live[free_pages_N[(free_pages_N >= 0) & (free_pages_N < self.num_pages)]] = False

    def clear(self) -> None:
        """Nothing is live any more."""
        self._live[:] = False

    def save(self) -> None:
        """Remember what is live, in place of what was remembered before."""
        self._saved = self.all()

    def restore(self) -> None:
        """What was live at the last `save` is live."""
        if self._saved is not None:
            self._live[:] = False
            self._live[self._saved] = True

    def _turn(self, slots_N: IntArray, live: bool) -> IntArray:
        if len(slots_N) > _MANY:
            pages = self._pages(slots_N)
            before = pages[self._live[pages]]
            self._live[pages] = live
            return before
        page_size, num_pages, marks = self.page_size, self.num_pages, self._marks
        few = {page for slot in slots_N.tolist() if 0 <= (page := slot // page_size) < num_pages}
        were = [page for page in few if marks[page]]
        for page in few:
            marks[page] = live
        return np.array(sorted(were), dtype=np.int64)

    def _pages(self, slots_N: IntArray) -> IntArray:
        pages = np.unique(slots_N // self.page_size)
        return pages[(pages >= 0) & (pages < self.num_pages)]
