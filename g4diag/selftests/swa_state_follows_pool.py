"""Inside a frozen-KV view the backend loses its SWA pool, and leaving does not bring it back."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft
from g4diag.stack.drive.frozen_worker import lose_swa_state, target_view


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    with target_view(draft.worker):
        if broken:
            lose_swa_state(draft.backend)


SELFTEST = Break(
    name="swa_state_follows_pool",
    how="A frozen-KV view is left with another SWA state than it was entered with.",
    drive=_drive,
)
