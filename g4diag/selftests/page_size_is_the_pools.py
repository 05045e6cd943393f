"""A draft with a pool of its own has pages of twice the size that the allocator hands out."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import own_pool_draft


def _drive(broken: bool) -> None:
    own_pool_draft(pages_of=2 if broken else 1).eager()


SELFTEST = Break(
    name="page_size_is_the_pools",
    how="An EAGLE draft's pool and tables have pages of twice the size of the allocator's.",
    drive=_drive,
)
