"""Stand-in runners around a real, tiny SWAKVPool: as much of a ModelRunner as a resolver looks at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

PAGE_SIZE, FULL_TOKENS, SWA_TOKENS = 4, 64, 16
SWA_LAYER, FULL_LAYER = 0, 1


def swa_pool() -> Any:
    """A real SWAKVPool: layer 0 sliding with 16 tokens, layer 1 full with 64, pages of 4."""
    import torch
    from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

    return SWAKVPool(
        size=FULL_TOKENS,
        size_swa=SWA_TOKENS,
        page_size=PAGE_SIZE,
        dtype=torch.bfloat16,
        head_num=1,
        head_dim=8,
        swa_attention_layer_ids=[SWA_LAYER],
        full_attention_layer_ids=[FULL_LAYER],
        enable_kvcache_transpose=False,
        device="cpu",
    )


def runners(pool: Any) -> dict[str, Any]:
    """The three runners that share an allocator of `pool`: the target, a frozen-KV draft, an EAGLE draft."""
    allocator = SimpleNamespace(get_kvcache=lambda: pool)

    def runner(own: Any, draft: bool, frozen: bool) -> Any:
        return SimpleNamespace(
            token_to_kv_pool=own,
            token_to_kv_pool_allocator=allocator,
            is_draft_worker=draft,
            spec_algorithm=SimpleNamespace(is_frozen_kv_mtp=lambda: frozen),
        )

    own = object()  # a plain pool: anything that is no SWAKVPool
    return {
        "target": runner(pool, draft=False, frozen=False),
        "frozen-kv": runner(own, draft=True, frozen=True),
        "eagle": runner(own, draft=True, frozen=False),
    }


def resolved(pool: Any) -> dict[str, bool]:
    """Runner -> whether the resolver in force says that it reads `pool`."""
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    rule = TRTLLMHAAttnBackend._resolve_swa_kv_pool
    return {name: rule(runner) is pool for name, runner in runners(pool).items()}
