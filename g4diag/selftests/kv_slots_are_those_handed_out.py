"""K/V of a request's last page is written by a mapping that has another request's page there."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft, swap_last_pages, write_last_token


def _drive(broken: bool) -> None:
    serving = frozen_draft().serving
    if broken:
        swap_last_pages(serving)
    write_last_token(serving)


SELFTEST = Break(
    name="kv_slots_are_those_handed_out",
    how="The mapping of two requests' last pages is swapped, and K/V of one of them is written.",
    drive=_drive,
)
