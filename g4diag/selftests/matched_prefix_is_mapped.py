"""The SWA slots of a cached prefix are freed behind the prefix cache's back, and its next user comes."""

from __future__ import annotations

from typing import Any

from g4diag.selftests.contract import Break
from g4diag.stack.drive.request_state import request_row


def _drive(broken: bool) -> None:
    from g4diag.stack.drive.serving import Geometry, Serving

    serving = Serving(Geometry(requests=2), seed=0)
    (first, ids), _ = serving.prompts()
    serving.admit(first, ids)
    (req,) = serving.running.reqs
    slots: Any = serving.request_pool.req_to_token[request_row(req), : len(ids)].long().clone()
    serving.release(req)
    if broken:
        serving.allocator.free_swa(slots[: len(ids) // serving.geometry.page_size * serving.geometry.page_size])
    serving.admit("again", [*ids, 1, 2, 3])


SELFTEST = Break(
    name="matched_prefix_is_mapped",
    how="The SWA slots of a cached prefix are freed behind the cache's back.",
    drive=_drive,
    companions=("page_in_window_is_mapped",),  # the prefill that comes then reads there
)
