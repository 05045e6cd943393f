"""A draft's batch is prepared, and the request row of its first request is given to another before it is read."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft
from g4diag.stack.drive.request_state import give_row_back, request_row, take_row


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    batch, rows = draft.prepared(), draft.serving.request_pool
    if broken:
        first = draft.serving.running.reqs[0]
        row = request_row(first)
        give_row_back(rows, first)
        while request_row(holder := take_row(rows)) != row:
            assert holder is not None, "a pool that does not give a row again"
    draft.worker.draft_forward(batch)


SELFTEST = Break(
    name="request_row_is_of_its_request",
    how="A prepared draft batch is read after the request row of one of its requests was given to another.",
    drive=_drive,
)
