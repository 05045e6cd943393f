"""The last page of a free list is one past the pool, and then the pool is handed out to the last page."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, paged


def _drive(broken: bool) -> None:
    made = paged()
    if broken:
        made.free_pages[-1] += 1
    made.alloc(8 * PAGE)


SELFTEST = Break(
    name="slot_inside_allocator",
    how="The free list's last page is one past the pool; the whole pool is handed out.",
    drive=_drive,
)
