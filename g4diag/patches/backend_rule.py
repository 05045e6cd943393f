"""Shared by the patches around the resolver of trtllm_mha: where it is, and the hook that puts another rule there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook

BACKEND = "sglang.srt.layers.attention.trtllm_mha_backend.TRTLLMHAAttnBackend"
RESOLVER = f"{BACKEND}._resolve_swa_kv_pool"

CALLED_ONCE = Anchor(f"{BACKEND}.__init__", "self._resolve_swa_kv_pool(model_runner)")
TWO_SIDED = Anchor(RESOLVER, "is_frozen_kv_mtp()")


def rule_hook(pool_of: Callable[[Any], Any]) -> Hook:
    """REPLACE the resolver: the SWA pool is `pool_of(model_runner)` if that is an SWAKVPool, else None.
    Backends built while it is on keep what it said; those built before are not changed."""

    def resolve(model_runner: Any) -> Any:
        return swa_pool_or_none(pool_of(model_runner))

    return Hook(RESOLVER, "replace", resolve)


def swa_pool_or_none(pool: Any) -> Any:
    """`pool` if it is sglang's SWAKVPool, else None."""
    from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

    return pool if isinstance(pool, SWAKVPool) else None
