"""Inside a frozen-KV view the backend loses its SWA pool, and leaving does not bring it back."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft, target_view


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    with target_view(draft):
        if broken:
            draft.backend._swa_kv_pool = None


SELFTEST = Break(
    name="swa_state_follows_pool",
    how="A frozen-KV view is left with another SWA state than it was entered with.",
    drive=_drive,
)
