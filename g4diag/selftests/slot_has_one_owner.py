"""A live page is put back to the front of the free list behind the allocator's back, and handed out again."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, paged
from g4diag.stack.drive.swa_pool import next_pages, set_next_pages


def _drive(broken: bool) -> None:
    made = paged()
    slots = made.alloc(PAGE)
    if broken:
        set_next_pages(made, [int(slots[0]) // PAGE, *next_pages(made)])
    made.alloc(PAGE)


SELFTEST = Break(
    name="slot_has_one_owner",
    how="A page with an owner is put on the free list and handed out to the next.",
    drive=_drive,
)
