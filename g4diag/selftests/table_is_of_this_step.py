"""A draft's metadata says one key a row fewer than the batch has."""

from __future__ import annotations

from typing import Any

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import change_metadata, frozen_draft


def _a_step_old(metadata: Any) -> None:
    metadata.cache_seqlens_int32 = metadata.cache_seqlens_int32 - 1


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    if broken:
        change_metadata(draft, _a_step_old)
    draft.eager()


SELFTEST = Break(
    name="table_is_of_this_step",
    how="The lengths in a draft's metadata are those of one step before.",
    drive=_drive,
)
