"""The fused FP8 write of K/V uses full-space slots on sliding layers too.

PR: sglang #19107 (opened 2026-02-21, merged), gpt-oss on trtllm_mha with an FP8 KV cache. #18970 had taught the backend
SWA pools; the pool's own write translated its slots by layer, the fused kernel goes round the pool and did not.
What breaks: a sliding layer's K/V lands on whatever SWA slot has the full slot's number, and is read where it never
went: broken answers, another request's K/V overwritten, a write past the pool where the full slot has no such number.
Put back: `TRTLLMHAAttnBackend._get_layer_cache_loc`, which only the fused write asks, gives the batch's own slots.
Page tables are right; `kv_slots_in_layer_space` looks at the slots of the write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.backend_rule import BACKEND
from g4diag.patches.contract import Form, Patch

_SLOTS = f"{BACKEND}._get_layer_cache_loc"


def untranslated(original: Callable[..., Any], backend: Any, layer: Any, forward_batch: Any) -> Any:
    """int64[tokens]: the batch's full slots, whatever the layer."""
    original(backend, layer, forward_batch)
    return forward_batch.out_cache_loc


PATCH = Patch(
    name="fused-write-full-index",
    kind="fault",
    why="With an FP8 KV cache a sliding layer's K/V is written to the SWA slots that full slots have the numbers of.",
    how="Around TRTLLMHAAttnBackend._get_layer_cache_loc: the batch's full slots, whatever the layer.",
    upstream="sgl-project/sglang#19107 (opened 2026-02-21, merged); brought in by #18970",
    releases=">=0.5.13",
    anchors=(Anchor(_SLOTS, "return forward_batch.out_cache_loc"),),
    forms=tuple(
        Form(
            releases,
            (Anchor(f"{BACKEND}.{write}", "cache_loc = self._get_layer_cache_loc(layer, forward_batch)"),),
            lambda: (Hook(_SLOTS, "around", untranslated),),
        )
        for releases, write in {
            ">=0.5.16": "_fused_fp8_qkv_kv_cache",
            ">=0.5.13,<0.5.16": "_fused_fp8_set_kv_buffer",
        }.items()
    ),
    remove_when="Never: it is an exhibit. Move the anchors when the fused write moves.",
)
