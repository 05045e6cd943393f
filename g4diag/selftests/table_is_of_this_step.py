"""A graph is replayed without its metadata being brought up to this step."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    draft.graph()
    draft.serving.decode()
    if broken:
        draft.worker._init_frozen_kv_metadata_replay_cuda_graph = lambda *args: None
    draft.graph()


SELFTEST = Break(
    name="table_is_of_this_step",
    how="A draft's graph is replayed a decode step later, and its metadata is not filled anew.",
    drive=_drive,
)
