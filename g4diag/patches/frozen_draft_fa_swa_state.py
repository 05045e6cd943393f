"""A frozen-KV draft's FlashAttentionBackend takes its SWA state from the pool that it will read.

Symptom: with fa4, Gemma-4 and frozen-KV MTP the accept length is little more than 1 where another backend has 3 and
more. Outputs are right, since target verify protects them; nothing faults and nothing is logged until the SWA pool is
so small that a full-space page id leaves it.
Cause: the constructor keeps `use_sliding_window_kv_pool` from the runner's own pool. A frozen-KV draft's own is a plain
one of 64 tokens, and the views that give it the target's swap the pool and not the boolean: its sliding layers are
handed full-space page ids.
Cure: the rule that #27491 gave to trtllm_mha. A frozen-KV draft shares the target's allocator, and that one's pool says
what it will read. Any other runner keeps the answer of its own pool: an EAGLE draft with a pool of its own must not be
translated (#25103). The draft writes no K/V, so it needs no SWA write slots, which upstream would look up for a
backend with SWA state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch

_BACKEND = "sglang.srt.layers.attention.flashattention_backend.FlashAttentionBackend"
_FLAG = "use_sliding_window_kv_pool"


def built(result: Any, backend: Any, model_runner: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER the constructor."""
    if model_runner.is_draft_worker and model_runner.spec_algorithm.is_frozen_kv_mtp():
        pool = model_runner.token_to_kv_pool_allocator.get_kvcache()
        setattr(backend, _FLAG, getattr(pool, "swa_layer_nums", 0) > 0)
        backend._g4diag_writes_no_kv = True


def no_write_locations(original: Callable[..., Any], backend: Any, forward_batch: Any) -> Any:
    """AROUND the lookup of SWA write slots: a frozen-KV draft has none, and zeros stand where there are to be some."""
    found = original(backend, forward_batch)
    if found is None and getattr(backend, "_g4diag_writes_no_kv", False) and forward_batch.out_cache_loc is not None:
        found = forward_batch.out_cache_loc.new_zeros(forward_batch.out_cache_loc.shape)
    return found


def hooks() -> tuple[Hook, ...]:
    """The constructor and the lookup of write slots."""
    return (
        Hook(f"{_BACKEND}.__init__", "after", built),
        Hook(f"{_BACKEND}._get_swa_write_locations", "around", no_write_locations),
    )


PATCH = Patch(
    name="frozen-draft-fa-swa-state",
    kind="cure",
    why="On fa4 sliding layers of a frozen-KV draft are handed full-space page ids: accept length falls to about 1.",
    how="After FlashAttentionBackend.__init__ a frozen-KV draft's SWA state is that of its allocator's pool.",
    upstream="none found; alive in 0.5.23 as run on an H100",
    releases=">=0.5.22",
    anchors=(
        Anchor(f"{_BACKEND}.__init__", "isinstance(model_runner.token_to_kv_pool, SWAKVPool)"),
        Anchor(f"{_BACKEND}.__init__", "and model_runner.token_to_kv_pool.swa_layer_nums > 0"),
        Anchor(_BACKEND, "def _get_swa_write_locations("),
    ),
    hooks=hooks,
    remove_when="Upstream's constructor asks the pool that a frozen-KV draft reads.",
)
