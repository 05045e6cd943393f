"""A small server that faults are put into: two requests of the same length, and no page of the same number in both
spaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.request_state import request_row
from g4diag.stack.drive.serving import Geometry, Serving
from tests.injected.watching import Watched

PAGE, WINDOW, PROMPT = 16, 40, 120
SIZES = Geometry(full_tokens=1024, ratio=0.5, page_size=PAGE, window=WINDOW, chunk=0, prompt=PROMPT, requests=3, live=2)


def serving(**more: Any) -> Serving:
    """A target that has admitted nobody; more: of `Serving`."""
    made = Serving(SIZES, seed=0, **more)
    made.allocator.swa_attn_allocator.alloc(PAGE)
    return made


def admit(server: Serving, rid: str, length: int = PROMPT - 2 * PAGE) -> None:
    """A request with a prompt of so many tokens of its own."""
    first = 1 + 7 * int(rid[1:])
    assert server.admit(rid, [(first + 13 * i) % server.pair.VOCAB for i in range(length)])


def target(live: Watched, requests: int = 2, **more: Any) -> Serving:
    """... that has admitted this many."""
    made = serving(**more)
    live.begin_step()
    for i in range(requests):
        admit(made, f"r{i}")
    return made


def drafting(live: Watched) -> FrozenDraft:
    """A frozen-KV draft over a target with two requests."""
    made = FrozenDraft(serving())
    live.begin_step()
    for i in range(2):
        admit(made.serving, f"r{i}")
    return made


def slots(server: Serving, request: int) -> Any:
    """int64[N]: full slots of a running request, by position."""
    req = server.running.reqs[request]
    end = int(server.running.seq_lens[request])
    return server.request_pool.req_to_token[request_row(req), :end].long()


def last_page(server: Serving, request: int, back: int = 0) -> Any:
    """int64[PAGE]: the full slots of its last full page, or of one so many pages before."""
    held = slots(server, request)
    end = len(held) // PAGE * PAGE - back * PAGE
    return held[end - PAGE : end].clone()


def change(backend: Any, how: Callable[[Any], None]) -> None:
    """Let `how` at the metadata of each eager step, before any layer looks at it."""
    honest = backend.init_forward_metadata

    def changed(forward_batch: Any) -> None:
        honest(forward_batch)
        how(backend.forward_metadata)

    backend.init_forward_metadata = changed
