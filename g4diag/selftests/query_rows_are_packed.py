"""A kernel that reads packed rows is called from within a forward with a query whose rows are apart."""

from __future__ import annotations

from g4diag.selftests.contract import Break


def _drive(broken: bool) -> None:
    from g4diag.stack.drive.serving import Geometry, Serving
    from g4diag.stack.drive.xqa import hand_over_rows_apart

    serving = Serving(Geometry(requests=2), 0)
    serving.runner.attn_backend.is_xqa_impl = True
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
    if broken:
        hand_over_rows_apart(serving.runner.attn_backend)
    serving.decode()


SELFTEST = Break(
    name="query_rows_are_packed",
    how="XQA is called in a decode with a query whose rows are two rows apart.",
    drive=_drive,
)
