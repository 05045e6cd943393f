"""K/V is written to the target's pool while the draft has it in its view; outside of it the same write is silent."""

from __future__ import annotations

from contextlib import nullcontext

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft, write_last_token
from g4diag.stack.drive.frozen_worker import target_view


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    draft.eager()
    with target_view(draft.worker) if broken else nullcontext():
        write_last_token(draft.serving)


SELFTEST = Break(
    name="draft_writes_no_kv",
    how="A token's K/V is written to the target's pool inside frozen_kv_target_view.",
    drive=_drive,
    unseen=True,
)
