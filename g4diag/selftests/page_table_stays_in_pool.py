"""A draft's sliding layers are handed the page behind their pool's last."""

from __future__ import annotations

from typing import Any

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import change_metadata, frozen_draft


def _drive(broken: bool) -> None:
    draft = frozen_draft()

    def past_the_end(metadata: Any) -> None:
        geometry = draft.serving.geometry
        column = (int(metadata.cache_seqlens_int32[0]) - 1) // geometry.page_size
        metadata.swa_page_table = metadata.swa_page_table.clone()
        metadata.swa_page_table[0, column] = geometry.swa_tokens // geometry.page_size + 1

    if broken:
        change_metadata(draft, past_the_end)
    draft.eager()


SELFTEST = Break(
    name="page_table_stays_in_pool",
    how="The last page of a request's SWA table is the first that its pool has not.",
    drive=_drive,
    companions=("page_table_in_layer_space",),
)
