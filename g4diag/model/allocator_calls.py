"""What an allocator handed out in one call, and what it was given back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from g4diag.model.nouns import IntArray, PoolView
from g4diag.model.once import once

FEW = 64  # ids up to which Python's loops and sets are quicker than numpy's calls


@dataclass(frozen=True)
class Allocation:
    """Ids an allocator returned. call: "alloc", "alloc_extend" or "alloc_decode". pool: bounds come from it.
    slots_N: int64 in `pool`'s slot space. live_pages_N: int64, the pages of slots_N that were live just before the
    call, by our own book and not the allocator's; None if no book was kept."""

    KIND: ClassVar[str] = "allocations"

    call: str
    pool: PoolView
    slots_N: IntArray
    live_pages_N: IntArray | None = None

    @once
    def slots(self) -> list[int]:
        """slots_N as Python's numbers, which are quicker where they are few. For all traps once, as what follows."""
        slots: list[int] = self.slots_N.tolist()
        return slots

    @once
    def begun(self) -> list[int]:
        """The pages whose first slot is among them, in order."""
        page, slots_N = self.pool.page_size, self.slots_N
        if page == 1:
            return self.slots
        if len(slots_N) <= FEW:
            return [slot // page for slot in self.slots if not slot % page]
        begun: list[int] = (slots_N[slots_N % page == 0] // page).tolist()
        return begun

    @once
    def differ(self) -> bool:
        """Whether no slot is there twice."""
        return len(set(self.slots)) == len(self.slots)

    @once
    def live(self) -> set[int]:
        """live_pages_N; empty where no book was kept."""
        return set() if self.live_pages_N is None else set(self.live_pages_N.tolist())


@dataclass(frozen=True)
class Release:
    """Ids given back to an allocator, when they reach its free list: a free group's at the group's end.
    slots_N: int64 in `pool`'s slot space. live_pages_N: int64, the pages of slots_N that were live just before."""

    KIND: ClassVar[str] = "releases"

    pool: PoolView
    slots_N: IntArray
    live_pages_N: IntArray
