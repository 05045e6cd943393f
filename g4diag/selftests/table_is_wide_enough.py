"""A draft's page tables are cut to three columns before its layers are handed them."""

from __future__ import annotations

from typing import Any

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import change_metadata, frozen_draft


def _cut(metadata: Any) -> None:
    metadata.page_table, metadata.swa_page_table = metadata.page_table[:, :3], metadata.swa_page_table[:, :3]


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    if broken:
        change_metadata(draft, _cut)
    draft.eager()


SELFTEST = Break(
    name="table_is_wide_enough",
    how="The draft's page tables have three columns, for requests of sixty pages.",
    drive=_drive,
)
