"""A target's queries are left in the qkv buffer, as on CUDA, and go to a kernel that reads packed rows."""

from __future__ import annotations

from contextlib import nullcontext

from g4diag.selftests.contract import Break


def _drive(broken: bool) -> None:
    from g4diag.stack.drive.serving import Geometry, Serving
    from g4diag.stack.drive.xqa import queries_in_place

    serving = Serving(Geometry(requests=2), 0)
    serving.runner.attn_backend.is_xqa_impl = True
    for rid, ids in serving.prompts():
        serving.admit(rid, ids)
    with queries_in_place(serving.model) if broken else nullcontext():
        serving.decode()


SELFTEST = Break(
    name="query_rows_are_packed",
    how="The target's queries are slices of the qkv buffer, as on CUDA, in a decode on XQA.",
    drive=_drive,
)
