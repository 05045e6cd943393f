"""A free page is taken off the free list behind the allocator's back, and handed to nobody."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, paged
from g4diag.stack.drive.swa_pool import next_pages, set_next_pages


def _drive(broken: bool) -> None:
    made = paged()
    made.alloc(PAGE)
    if broken:
        set_next_pages(made, next_pages(made)[:-1])
    made.alloc(PAGE)


SELFTEST = Break(
    name="page_is_free_or_live",
    how="A free page is taken off the free list, from its end, and given to nobody.",
    drive=_drive,
)
