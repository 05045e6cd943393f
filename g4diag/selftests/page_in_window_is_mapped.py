"""The last page of a running request loses its SWA page behind the allocator's back."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft, last_page


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    if broken:
        draft.serving.allocator.full_to_swa_index_mapping[last_page(draft.serving)] = 0
    draft.eager()


SELFTEST = Break(
    name="page_in_window_is_mapped",
    how="The full page that holds a request's last tokens is unmapped, and its draft reads the window.",
    drive=_drive,
)
