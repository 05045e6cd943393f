"""The last page of a free list is one past the pool, and then the pool is handed out to the last page."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, paged
from g4diag.stack.drive.swa_pool import next_pages, set_next_pages


def _drive(broken: bool) -> None:
    made = paged()
    if broken:
        *pages, last = next_pages(made)
        set_next_pages(made, [*pages, last + 1])
    made.alloc(8 * PAGE)


SELFTEST = Break(
    name="slot_inside_allocator",
    how="The free list's last page is one past the pool; the whole pool is handed out.",
    drive=_drive,
    companions=("page_is_free_or_live",),  # the page that should have been the list's last
)
