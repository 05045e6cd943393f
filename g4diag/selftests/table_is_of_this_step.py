"""A graph is replayed without its metadata being brought up to this step."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft
from g4diag.stack.drive.frozen_worker import keep_metadata_in_replay


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    draft.graph()
    draft.serving.decode()
    if broken:
        keep_metadata_in_replay(draft.worker)
    draft.graph()


SELFTEST = Break(
    name="table_is_of_this_step",
    how="A draft's graph is replayed a decode step later, and its metadata is not filled anew.",
    drive=_drive,
)
