"""Faults in whose pool is read and written: views left swapped, writes to old slots, pages of another size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import AttentionRead, KVSlots, PoolSwap, View
from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
from g4diag.stack.releases import current
from tests.injected.contract import Drive, Fault
from tests.injected.server import PAGE, admit, drafting, serving, target
from tests.injected.watching import Watched

_SWAPS = ("trtllm-mha-swa", "patch-e-views", "hybrid-wrapper", "eagle-own-pool")
_WRITES = ("fp8-write-full-index", "stale-out-cache-loc", "stale-mapping-on-recycle")


class _Injected(RuntimeError):
    """What the drive has the model raise."""


@contextmanager
def _never_left(original: Any, forward_batch: Any, kv_context: Any, backend: Any) -> Iterator[None]:
    """A view without its `finally`: an exception leaves the backend with the target's pool."""
    own, spec_info = backend.token_to_kv_pool, forward_batch.spec_info
    backend.token_to_kv_pool = kv_context.target_token_to_kv_pool
    yield
    backend.token_to_kv_pool, forward_batch.spec_info = own, spec_info


@contextmanager
def _never_left_frozen(original: Any, forward_batch: Any, kv_context: Any, backend: Any) -> Iterator[None]:
    with _never_left(original, forward_batch, kv_context, backend):
        forward_batch.spec_info = None
        yield


def _hook(view: str, function: Callable[..., Any]) -> Callable[[], list[Hook]]:
    return lambda: [Hook(current().path(f"view.{view}"), "around", function)]


def _raising(where: Callable[[Any], tuple[Any, str]]) -> Drive:
    """A draft step in which something raises inside a view, and the step after it. where: (owner, method)."""

    def drive(live: Watched, broken: bool) -> None:
        draft = drafting(live)
        owner, name = where(draft)
        live.begin()
        live.begin_step()

        def raises(*args: Any, **kwargs: Any) -> None:
            raise _Injected(name)

        setattr(owner, name, raises)
        try:
            draft.eager()
        except _Injected:
            delattr(owner, name)
        else:
            raise AssertionError(f"{name} was not called in a view")
        live.begin_step()
        draft.eager()

    return drive


def _old_writes(live: Watched, broken: bool) -> None:
    """A decode whose sliding layers write to the SWA slots of the decode before."""
    server = target(live)
    backend = server.runner.attn_backend
    server.decode()
    before = backend.forward_metadata.swa_out_cache_loc.clone()
    live.begin()
    live.begin_step()
    honest = backend.init_forward_metadata

    def stale(batch: Any) -> None:
        honest(batch)
        if broken:
            backend.forward_metadata.swa_out_cache_loc = before

    backend.init_forward_metadata = stale
    server.decode()


def _draft_pages(live: Watched, broken: bool) -> None:
    """An EAGLE draft with a pool and tables of 32 tokens a page, over an allocator of 16."""
    server = serving(algorithm="EAGLE")
    own = server.args, server.geometry
    if broken:
        server.args = copy.copy(server.args)
        server.args.page_size = 2 * PAGE
        server.geometry = replace(server.geometry, page_size=2 * PAGE)
    draft = OwnPoolDraft(server)
    server.args, server.geometry = own
    live.begin()  # the draft's own prefill reads such pages already
    live.begin_step()
    for i in range(2):
        admit(server, f"r{i}")
    live.begin_step()
    server.decode()
    draft.eager()


def _of_draft(view: View) -> bool:
    return isinstance(view, AttentionRead) and view.worker == "draft"


FAULTS = (
    Fault(
        "frozen-view-left",
        "frozen_kv_target_view is left by an exception and does not put the draft's own pool back.",
        _raising(lambda draft: (draft.backend, "init_forward_metadata")),
        hooks=_hook("frozen_kv_target_view", _never_left_frozen),
        shows=lambda view: isinstance(view, PoolSwap),
        must_not=_SWAPS,
    ),
    Fault(
        "pool-view-left",
        "target_kv_pool_view is left by an exception and does not put the draft's own pool back.",
        _raising(lambda draft: (draft.worker.draft_model_runner.model, "forward")),
        hooks=_hook("target_kv_pool_view", _never_left),
        shows=lambda view: isinstance(view, PoolSwap),
        must_not=_SWAPS,
    ),
    Fault(
        "swa-write-step-old",
        "The sliding layers of a decode write K/V to the SWA slots of the decode before: swa_out_cache_loc is old.",
        _old_writes,
        shows=lambda view: isinstance(view, KVSlots),
        must_not=_WRITES,
    ),
    Fault(
        "draft-page-size",
        "The draft's pool and tables have pages of 32 tokens over an allocator that hands out pages of 16.",
        _draft_pages,
        shows=_of_draft,
        must_not=("draft-pool-too-small", "eagle-own-pool", "table-width-draft-tokens"),
    ),
)
