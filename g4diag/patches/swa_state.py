"""Shared by patch E, its partial form and the hybrid wrapper's cure: a draft's backend follows the pool it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import swa_pool_or_none
from g4diag.patches.contract import Form, Hooks

UTILS = "sglang.srt.speculative.frozen_kv_mtp_utils"
VIEWS = ("frozen_kv_target_view", "target_kv_pool_view")
STATE = "_swa_kv_pool"
# Since 0.5.16 the mapping of that pool as well, which the graph's own metadata kernel reads.
MAPPING = "_swa_full_to_swa_mapping"
# Who uses the views, by release: module, class.
WORKERS = {
    ">0.5.12.post1,<0.5.14": ("sglang.srt.speculative.frozen_kv_mtp_worker", "FrozenKVMTPWorker"),
    ">=0.5.14": ("sglang.srt.speculative.frozen_kv_mtp_worker_v2", "FrozenKVMTPDraftWorker"),
}

# (draft backend, frozen-KV context) -> what holds for as long as the view does.
Inside = Callable[[Any, Any], AbstractContextManager[None]]

VIEW_ANCHORS = tuple(
    Anchor(f"{UTILS}.{view}", "draft_attn_backend.token_to_kv_pool = kv_context.target_token_to_kv_pool")
    for view in VIEWS
)


@contextmanager
def following(backend: Any, kv_context: Any) -> Iterator[None]:
    """Inside, `backend._swa_kv_pool` is the target pool if that is an SWAKVPool, else None, and the mapping beside it
    that pool's; outside what they were, also after an exception. A backend without that attribute, or a draft not
    bound to a target, is left alone."""
    if kv_context is None or not hasattr(backend, STATE):
        yield
        return
    pool = swa_pool_or_none(kv_context.target_token_to_kv_pool)
    state = {STATE: pool}
    if hasattr(backend, MAPPING):
        state[MAPPING] = None if pool is None else pool.full_to_swa_index_mapping
    with holding(backend, state):
        yield


@contextmanager
def holding(owner: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Inside, `owner` has these attributes of its own; outside what it had, also after an exception."""
    mine = vars(owner)
    before = {name: mine[name] for name in values if name in mine}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in values:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)


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


def view_forms(hooks: Hooks, *of_worker: tuple[str, str]) -> tuple[Form, ...]:
    """What hooks the views, for each worker that has used them. of_worker: (method, text) of further anchors in it."""
    used = tuple((f"_{view}", f"return {view}(") for view in VIEWS)
    return tuple(
        Form(
            releases=releases,
            anchors=tuple(Anchor(f"{module}.{worker}.{method}", text) for method, text in (*used, *of_worker)),
            hooks=hooks,
            verify=partial(verify_views, module),
        )
        for releases, (module, worker) in WORKERS.items()
    )


def verify_views(module: str) -> None:
    """The worker imports both views by name: its aliases must be the hooked ones."""
    worker, utils = import_module(module), import_module(UTILS)
    for view in VIEWS:
        used, hooked = getattr(worker, view), getattr(utils, view)
        if used is not hooked:
            raise PatchRefused(view, "the worker's alias rebound to the hooked view", repr(used))


@contextmanager
def _both(outer: AbstractContextManager[Any], inner: AbstractContextManager[None]) -> Iterator[Any]:
    with outer as value, inner:
        yield value
