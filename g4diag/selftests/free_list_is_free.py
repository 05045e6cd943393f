"""A live page is put at the end of the free list behind the allocator's back; nobody is given it yet."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, paged
from g4diag.stack.drive.swa_pool import next_pages, set_next_pages


def _drive(broken: bool) -> None:
    made = paged()
    slots = made.alloc(PAGE)
    if broken:
        set_next_pages(made, [*next_pages(made), int(slots[0]) // PAGE])
    made.alloc(PAGE)


SELFTEST = Break(
    name="free_list_is_free",
    how="A page with an owner is put on the free list, at its end.",
    drive=_drive,
)
