"""alloc_extend is told that a request's last slot lies in a page that nobody was given, and goes on in it."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, extend, paged
from g4diag.stack.drive.swa_pool import next_pages, set_next_pages


def _drive(broken: bool) -> None:
    made = paged()
    slots = extend(made, 2)
    # Not on the free list either, so that the list itself has nothing wrong.
    set_next_pages(made, [page for page in next_pages(made) if page != 5])
    extend(made, 2, have=2, last=5 * PAGE + 1 if broken else int(slots[-1]))


SELFTEST = Break(
    name="page_is_handed_out_whole",
    how="A request is extended from a last slot in a page that nobody was given.",
    drive=_drive,
)
