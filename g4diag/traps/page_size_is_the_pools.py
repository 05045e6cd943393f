"""A page table counts in pages of the pool that it is for, and of the allocator that hands those pages out.

A draft may have a pool, a backend and a page size of its own, and shares the target's allocator and request rows. A
table made in pages of 32 over slots handed out in pages of 16 takes every second page of a request and reads 32 tokens
from there: half of them another's. Each id is inside the pool and is what req_to_token says in pages of that size, so
the other table traps, which count in the pool's pages, agree.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.model import AttentionRead, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.reads import violation_in


def judge(read: AttentionRead) -> Iterator[Violation]:
    """At most one violation a read."""
    page = read.pool.page_size
    if read.backend_page_size in (None, page) and read.allocator_page_size in (None, page):
        return
    sizes = {
        "its backend makes": read.backend_page_size,
        "its pool has": read.pool.page_size,
        "its allocator hands out": read.allocator_page_size,
    }
    if needs(read) or len({size for size in sizes.values() if size is not None}) < 2 or not len(read.seq_lens_B):
        return
    told = ", ".join(f"{who} pages of {size}" for who, size in sizes.items() if size is not None)
    rows = len(read.seq_lens_B)
    summary = f"{read.worker} layer {read.layer_id} reads a page table in pages of different sizes: {told} tokens"
    yield violation_in(read, TRAP.name, Severity.ERROR, summary, row=0, count=rows, checked=rows)


def needs(read: AttentionRead) -> str:
    """A table of pages, and another's page size."""
    if read.pool.space is read.pool.slot_space:
        return "a table of pages, not of slots"
    known = read.backend_page_size is not None or read.allocator_page_size is not None
    return "" if known else "the page size of the backend or the allocator"


TRAP = Trap(
    name="page_size_is_the_pools",
    claim="A page table is made in pages of the size that its pool has and that the allocator hands out.",
    without_it="Pages that were never handed out together are read as one: other requests' K/V, and nothing faults.",
    cost="A compare of three numbers a read, on the host.",
    runs=("eager", "offline"),
    judges=AttentionRead,
    judge=judge,
    group="page-table",
    needs=needs,
    counts="rows of this read",
)
