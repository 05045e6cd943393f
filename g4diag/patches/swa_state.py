"""Shared by patch E and its partial form: the SWA state of a draft's backend follows the pool it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import swa_pool_or_none

UTILS = "sglang.srt.speculative.frozen_kv_mtp_utils"
VIEWS = ("frozen_kv_target_view", "target_kv_pool_view")
STATE = "_swa_kv_pool"

# (draft backend, frozen-KV context) -> what holds for as long as the view does.
Inside = Callable[[Any, Any], AbstractContextManager[None]]

VIEW_ANCHORS = tuple(
    Anchor(f"{UTILS}.{view}", "draft_attn_backend.token_to_kv_pool = kv_context.target_token_to_kv_pool")
    for view in VIEWS
)


@contextmanager
def following(backend: Any, kv_context: Any) -> Iterator[None]:
    """Inside, `backend._swa_kv_pool` is the target pool if that is an SWAKVPool, else None; outside what it was,
    also after an exception. A backend without that attribute, or a draft not bound to a target, is left alone."""
    if kv_context is None or not hasattr(backend, STATE):
        yield
        return
    mine = vars(backend)
    was_set, before = STATE in mine, mine.get(STATE)
    backend._swa_kv_pool = swa_pool_or_none(kv_context.target_token_to_kv_pool)
    try:
        yield
    finally:
        if was_set:
            backend._swa_kv_pool = before
        else:
            del backend._swa_kv_pool


def view_hooks(inside: Inside = following) -> tuple[Hook, ...]:
    """`inside` entered in both views, after upstream's own swap and left before it is taken back; the aliases other
    modules imported are rebound with them."""

    def view(
        original: Callable[..., AbstractContextManager[Any]],
        forward_batch: Any,
        kv_context: Any,
        draft_attn_backend: Any,
    ) -> AbstractContextManager[Any]:
        return _both(original(forward_batch, kv_context, draft_attn_backend), inside(draft_attn_backend, kv_context))

    return tuple(Hook(f"{UTILS}.{name}", "around", view) for name in VIEWS)


def verify_views() -> None:
    """The v1 worker imports both views by name: its aliases must be the hooked ones."""
    from sglang.srt.speculative import frozen_kv_mtp_utils, frozen_kv_mtp_worker

    for view in VIEWS:
        used, hooked = getattr(frozen_kv_mtp_worker, view), getattr(frozen_kv_mtp_utils, view)
        if used is not hooked:
            raise PatchRefused(view, "the worker's alias rebound to the hooked view", repr(used))


@contextmanager
def _both(outer: AbstractContextManager[Any], inner: AbstractContextManager[None]) -> Iterator[Any]:
    with outer as value, inner:
        yield value
