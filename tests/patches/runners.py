"""Stand-in runners around a real, tiny SWAKVPool: as much of a ModelRunner as a resolver looks at."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

PAGE_SIZE, FULL_TOKENS, SWA_TOKENS = 4, 64, 16
SWA_LAYER, FULL_LAYER = 0, 1


def swa_pool() -> Any:
    """A real SWAKVPool: layer 0 sliding with 16 tokens, layer 1 full with 64, pages of 4, a mapping of its own."""
    import torch
    from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

    given = {
        "size": FULL_TOKENS,
        "size_swa": SWA_TOKENS,
        "page_size": PAGE_SIZE,
        "dtype": torch.bfloat16,
        "head_num": 1,
        "head_dim": 8,
        "swa_attention_layer_ids": [SWA_LAYER],
        "full_attention_layer_ids": [FULL_LAYER],
        "enable_kvcache_transpose": False,  # until 0.5.13
        "device": "cpu",
    }
    takes = inspect.signature(SWAKVPool.__init__).parameters
    pool = SWAKVPool(**{name: value for name, value in given.items() if name in takes or name == "device"})
    pool.register_mapping(torch.zeros(FULL_TOKENS + PAGE_SIZE + 1, dtype=torch.int64))
    return pool


def worker_module() -> Any:
    """The module of the frozen-KV worker that uses the views."""
    from g4diag.hooks.targets import imported
    from g4diag.patches.contract import form_for
    from g4diag.patches.patch_e import PATCH

    form = form_for(PATCH)
    assert form is not None
    return imported(form.anchors[-1].target.rpartition(".")[0].rpartition(".")[0])


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
