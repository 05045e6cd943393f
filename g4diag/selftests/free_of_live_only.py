"""Pages are freed, and one of them once more."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import PAGE, paged


def _drive(broken: bool) -> None:
    made = paged()
    slots = made.alloc(2 * PAGE)
    made.free(slots)
    if broken:
        made.free(slots[:PAGE])


SELFTEST = Break(
    name="free_of_live_only",
    how="A page is freed twice.",
    drive=_drive,
    companions=("free_list_is_free",),  # the page is on the list twice from then on
)
