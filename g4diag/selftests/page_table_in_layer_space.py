"""A draft's sliding layers are handed a table of full page ids, all of which exist in the SWA pool too."""

from __future__ import annotations

from typing import Any

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import change_metadata, frozen_draft


def _untranslated(metadata: Any) -> None:
    metadata.swa_page_table = metadata.page_table.clone()


def _drive(broken: bool) -> None:
    draft = frozen_draft(apart=1)
    if broken:
        change_metadata(draft, _untranslated)
    draft.eager()


SELFTEST = Break(
    name="page_table_in_layer_space",
    how="The draft's sliding layers are handed full page ids, none of them past the SWA pool.",
    drive=_drive,
)
