"""alloc_extend is told that a request's last slot lies in a page that nobody was given, and goes on in it."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, extend, paged


def _drive(broken: bool) -> None:
    made = paged()
    slots = extend(made, 2)
    extend(made, 2, have=2, last=5 * PAGE + 1 if broken else int(slots[-1]))


SELFTEST = Break(
    name="page_is_handed_out_whole",
    how="A request is extended from a last slot in a page that nobody was given.",
    drive=_drive,
    companions=("free_list_is_free",),  # the page is on the list, and has slots that somebody was given
)
