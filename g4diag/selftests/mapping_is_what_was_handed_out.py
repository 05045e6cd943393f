"""Two requests' last pages have each other's SWA pages, as if the mapping had been written for the wrong one."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft, swap_last_pages


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    if broken:
        swap_last_pages(draft.serving)
    draft.eager()


SELFTEST = Break(
    name="mapping_is_what_was_handed_out",
    how="The mapping of two requests' last pages is swapped, and their draft reads both.",
    drive=_drive,
)
