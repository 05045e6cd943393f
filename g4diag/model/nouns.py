"""Index spaces, kinds and grades, and the two things every view refers to: a pool and the mapping between spaces.

numpy is imported where it is first used: who only shows findings does without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    IntArray = npt.NDArray[np.integer[Any]]
    BoolArray = npt.NDArray[np.bool_]
else:
    IntArray = BoolArray = Any


class IndexSpace(StrEnum):
    """What an integer index counts. Two spaces are never compared without a mapping."""

    FULL_PAGE = "full page"
    SWA_PAGE = "SWA page"
    FULL_SLOT = "full slot"
    SWA_SLOT = "SWA slot"
    REQUEST_ROW = "request row"

    @property
    def is_swa(self) -> bool:
        """Whether it counts in the SWA pool."""
        return self in (IndexSpace.SWA_PAGE, IndexSpace.SWA_SLOT)

    @property
    def unit(self) -> str:
        """What one id of it is: "page", "slot" or "request row"."""
        return self.value.removeprefix("full ").removeprefix("SWA ")

    @property
    def other(self) -> IndexSpace:
        """The space that ids may have been taken from by mistake: the same unit of the other pool."""
        return _OTHER[self]


_OTHER = {
    IndexSpace.SWA_PAGE: IndexSpace.FULL_PAGE,
    IndexSpace.FULL_PAGE: IndexSpace.SWA_PAGE,
    IndexSpace.SWA_SLOT: IndexSpace.FULL_SLOT,
    IndexSpace.FULL_SLOT: IndexSpace.SWA_SLOT,
}


class LayerKind(StrEnum):
    """Which attention a layer has, and so which pool its K/V lives in."""

    FULL = "full"
    SWA = "swa"


class Severity(StrEnum):
    """ERROR: wrong memory is read. WARNING: wrong, but nothing has diverged yet."""

    ERROR = "error"
    WARNING = "warning"


class Grade(StrEnum):
    """How a statement is known."""

    MEASURED = "measured"
    DERIVED = "derived"
    GUESS = "guess"


@dataclass(frozen=True)
class PoolView:
    """One KV pool.

    name: "full", "swa" or "mla" of a target, whose plain pool is full; "draft-own" of a draft with K/V of its own.
    space: the space of its ids. page_size: tokens a page; 1 where ids are slots. num_pages: pages in the buffer with
    the dummy page 0, so readable ids are 0 .. num_pages-1 and allocatable ids 1 .. num_pages-1. free_pages_N: int64
    page ids on the free list, or None if not taken.
    """

    name: str
    space: IndexSpace
    page_size: int
    num_pages: int
    free_pages_N: IntArray | None = None

    @property
    def slot_space(self) -> IndexSpace:
        """The slot space that goes with its page space."""
        return IndexSpace.SWA_SLOT if self.space.is_swa else IndexSpace.FULL_SLOT

    def by_slot(self) -> PoolView:
        """The same buffer as a reader of flat slots is handed it: pages of one token, the dummy page's slots included.
        Without the free list, which is of pages."""
        return PoolView(self.name, self.slot_space, 1, self.num_pages * self.page_size)

    @property
    def use(self) -> float | None:
        """Share of allocatable pages not on the free list, 0..1; None when the free list was not taken."""
        if self.free_pages_N is None or self.num_pages < 2:
            return None
        return 1.0 - len(self.free_pages_N) / (self.num_pages - 1)


@dataclass(frozen=True)
class RowOwners:
    """Whose request rows a table is read from, a row of the batch each.

    rids, rows_B: the requests that the batch was built for, and the request rows that they had then. taken_B: how often
    each of those rows had been given to a request by then. now_rids, now_taken_B: who has the row that is read when it
    is read, "" for nobody, and how often it has been given by then. Arrays: int64; -1, and a rid of "?": not known."""

    rids: tuple[str, ...]
    rows_B: IntArray
    taken_B: IntArray
    now_rids: tuple[str, ...]
    now_taken_B: IntArray


@dataclass(frozen=True)
class Windows:
    """Keys left of a query that a model's sliding layers see. kept: that its K/V cache keeps. built: that this layer
    was built with. widest: of all its sliding layers, as they were built."""

    kept: int
    built: int
    widest: int


@dataclass(frozen=True)
class IndexMapping:
    """`full_to_swa_index_mapping` as it was. full_to_swa_M: int64, full slot -> SWA slot, 0 = unmapped,
    last entry is the -1 sentinel (sglang SWATokenToKVPoolAllocator)."""

    full_to_swa_M: IntArray
    page_size: int

    @property
    def is_whole(self) -> bool:
        """Whether every slot is told. A dump of a large mapping keeps it where the dump names a slot: -1 elsewhere."""
        return bool((self.full_to_swa_M[:-1] != -1).all())

    def swa_pages(self, full_pages: IntArray) -> IntArray:
        """SWA page of each full page id (any shape); ids outside the mapping become -1."""
        import numpy as np

        pages, mapped = full_pages.astype(np.int64, copy=False), -(-(len(self.full_to_swa_M) - 1) // self.page_size)
        inside = pages.astype(np.uint64) < mapped  # below 0 is far above any bound, without a sign
        is_small = pages.size < mapped
        if is_small and np.count_nonzero(inside) == pages.size:
            found: IntArray = self.full_to_swa_M[pages * self.page_size] // self.page_size
            return found
        if is_small:
            swa_pages = self.full_to_swa_M[np.where(inside, pages, 0) * self.page_size] // self.page_size
        else:  # a large table: each page of the mapping is divided once
            swa_pages = (self.full_to_swa_M[:: self.page_size] // self.page_size).take(pages, mode="clip")
        return np.where(inside, swa_pages, -1)

    def swa_slots(self, full_slots: IntArray) -> IntArray:
        """SWA slot of each full slot (any shape), 0 where unmapped; slots outside the mapping become -1."""
        import numpy as np

        inside = (full_slots >= 0) & (full_slots < len(self.full_to_swa_M) - 1)
        return np.where(inside, self.full_to_swa_M[np.where(inside, full_slots, 0)], -1)

    def full_pages_of(self, swa_page: int) -> list[int]:
        """Full pages that map to this SWA page (more than one is a defect in itself)."""
        import numpy as np

        slots = np.flatnonzero(self.full_to_swa_M[:-1] // self.page_size == swa_page)
        mapped = slots[self.full_to_swa_M[slots] > 0]
        return sorted({int(slot) // self.page_size for slot in mapped})
