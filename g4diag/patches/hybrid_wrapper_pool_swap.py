"""The frozen-KV views also swap the pool of a hybrid wrapper's two children.

Symptom: the server comes up, and the first decode kills the scheduler with `IndexError: list index out of range` in
`memory_pool._get_key_buffer`. Or, when the target layer ids are below the assistant's layer count, nothing dies and
the draft reads its own 64-token pool with the target's page ids: far out of range.
Cause: with a prefill backend other than the decode backend (on Hopper the only way to decode with trtllm_mha) and no
--speculative-draft-attention-backend, the draft's backend is a HybridAttnBackend. Both views swap
`token_to_kv_pool` on it; what reads is a child, which keeps the draft's own pool.
Alive in every release from 0.5.13 to 0.5.23 (on an H100: 0.5.13 and 0.5.23; on the CPU 0.5.14, 0.5.16, 0.5.20, 0.5.21
too); no upstream thread was found in two searches. Without this patch the explicit flag avoids the wrapper; from 0.5.19
on trtllm_mha may prefill on Hopper too, and one backend for both needs no wrapper. The SWA state of a child follows its
pool too, as in patch E, so that the cure holds under the rule of #25103 as well.
A KVIndexTranslator (0.5.19 and later) of a draft with a pool of its own translates nothing, the child's as little as
the wrapper's: reads are mapped by the backend itself. A frozen draft over a unified pool is refused at start.
`TRTLLMHAAttnBackend` inherits a *string* attribute `decode_backend` ("fa2"): a wrapper is known by its type.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.patches.contract import Patch
from g4diag.patches.swa_state import VIEW_ANCHORS, following, holding, view_forms, view_hooks

_WRAPPER = "sglang.srt.layers.attention.hybrid_attn_backend.HybridAttnBackend"
_POOL = "token_to_kv_pool"


@contextmanager
def children_following(backend: Any, kv_context: Any) -> Iterator[None]:
    """Inside, every backend that `backend` wraps reads the target's pool, with its SWA state; outside what it was,
    also after an exception. Nothing for a backend that wraps none, or a draft not bound to a target."""
    with ExitStack() as undo:
        for child in _children(backend) if kv_context is not None else ():
            undo.enter_context(holding(child, {_POOL: kv_context.target_token_to_kv_pool}))
            undo.enter_context(following(child, kv_context))
        yield


def _children(backend: Any) -> Iterator[Any]:
    from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend

    if isinstance(backend, HybridAttnBackend):
        # One object may play both parts, and then it is swapped once.
        for child in {id(child): child for child in (backend.prefill_backend, backend.decode_backend)}.values():
            yield child
            yield from _children(child)


PATCH = Patch(
    name="hybrid-wrapper-pool-swap",
    kind="cure",
    why="The first draft step under a hybrid wrapper dies of IndexError, or reads the draft's own pool out of range.",
    how="In frozen_kv_target_view and target_kv_pool_view the wrapper's children get the target's pool as well.",
    upstream="none found; alive in 0.5.13 and, as run on an H100, in 0.5.23",
    releases=">=0.5.13",
    anchors=(
        *VIEW_ANCHORS,
        Anchor(f"{_WRAPPER}.__init__", "self.prefill_backend = prefill_backend"),
        Anchor(f"{_WRAPPER}.__init__", "self.decode_backend = decode_backend"),
    ),
    forms=view_forms(
        lambda: view_hooks(children_following),
        ("_init_draft_attn_backend", "return self.draft_model_runner.attn_backend"),
    ),
    remove_when="Upstream's views swap what reads, or a frozen draft is never given a hybrid wrapper.",
)
