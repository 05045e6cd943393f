"""Faults in request rows: what req_to_token holds, and whose row is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.stack.drive.request_state import request_row, take_row
from tests.injected.contract import Drive, Fault
from tests.injected.server import PAGE, PROMPT, admit, drafting, target
from tests.injected.watching import Watched

_READS = ("trtllm-mha-swa", "trtllm-mha-clamp", "fa3-spec-swa-table", "flashinfer-spec-window", "locked-prefix-freed")


def _negative(inside: int, **more: Any) -> Drive:
    """-1 in a row of req_to_token, `inside` tokens from the first of a page that the window holds, as padding has."""

    def drive(live: Watched, broken: bool) -> None:
        server = target(live, **more)
        live.begin()
        live.begin_step()
        end = int(server.running.seq_lens[0])
        at = (end // PAGE - 1) * PAGE + inside
        if broken:
            server.request_pool.req_to_token[request_row(server.running.reqs[0]), at] = -1
        server.decode()

    return drive


def _prepared(then: Callable[[Any], None]) -> Drive:
    """A draft's batch is made, `then` happens, and the draft reads what its batch says; healthy: the batch is made
    after it."""

    def drive(live: Watched, broken: bool) -> None:
        draft = drafting(live)
        live.begin()
        live.begin_step()
        batch = draft._forward_batch(None)
        then(draft.serving)
        live.begin_step()
        draft.worker.draft_forward(batch if broken else draft._forward_batch(None))

    return drive


def _row_to_another(server: Any) -> None:
    """The first request leaves, and the next has its row, for a prompt of the same length."""
    while take_row(server.request_pool) is not None:
        pass
    first = server.running.reqs[0]
    row = request_row(first)
    server.release(first)
    admit(server, "r2", PROMPT - 2 * PAGE)
    assert request_row(server.running.reqs[-1]) == row


def _handed(live: Watched, broken: bool) -> None:
    """A decode's batch with its request rows the wrong way round; both requests are as long."""
    server = target(live)
    live.begin()
    live.begin_step()
    backend = server.runner.attn_backend
    honest = backend.init_forward_metadata

    def other_rows(batch: Any) -> None:
        if broken:
            batch.req_pool_indices = batch.req_pool_indices.flip(0)
        honest(batch)

    backend.init_forward_metadata = other_rows
    server.decode()


FAULTS = (
    Fault(
        "negative-at-page-start",
        "req_to_token holds -1 at the first token of a page in the window; trtllm_mha makes a page id of it.",
        _negative(0),
        must_not=_READS,
    ),
    Fault(
        "negative-inside-page",
        "req_to_token holds -1 inside a page in the window; trtllm_mha reads the first token of each page only.",
        _negative(5),
        harmless=True,
        must_not=_READS,
    ),
    Fault(
        "negative-flat-page-start",
        "req_to_token holds -1 at the first token of a page in the window; triton hands that slot to its kernel.",
        _negative(0, backend="triton"),
        must_not=_READS,
    ),
    Fault(
        "negative-flat-inside-page",
        "req_to_token holds -1 inside a page in the window; triton hands that slot to its kernel.",
        _negative(5, backend="triton"),
        must_not=_READS,
    ),
    Fault(
        "row-reused",
        "A prepared draft batch reads the request row of a request that has left: another has it by then.",
        _prepared(_row_to_another),
        must_not=_READS,
    ),
    Fault(
        "another-row-in-batch",
        "A decode's batch names each of two requests' rows for the other.",
        _handed,
        must_not=_READS,
    ),
)
