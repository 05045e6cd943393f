"""A draft's own K/V pool has the number of tokens that the target's had before it was split into full and SWA.

Thread: sglang #17630 (2026-01-23, merged), gpt-oss with EAGLE; read in a stored copy. Splitting the memory makes the
full pool larger than the first estimate, in which all layers are full. A draft that is full throughout shares the
target's allocator, so its pool must have the full pool's number of slots; it had the estimate's.
What breaks: under load the allocator hands out slots past the draft's pool. The draft's K/V is written, then read, out
of bounds: an index assertion, or an illegal access in the attention kernel.
Put back: around the configurator the estimate is noted, with the split's own bytes a token; around
`_apply_memory_pool_config`, `_derive_pool_sizes` since 0.5.16, a draft is given it. A frozen-KV draft asks for 64
tokens and is left alone. As in the thread, in code that has since been taken apart (#20183).
Named by `page_table_stays_in_pool`, on the draft's read; the write before it is upstream's to assert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_SOLVE = "sglang.srt.model_executor.pool_configurator.HybridSWAPoolConfigurator._solve_pool_sizes"
_APPLY = "sglang.srt.model_executor.model_runner_kv_cache_mixin.ModelRunnerKVCacheMixin._apply_memory_pool_config"
_DERIVE = "sglang.srt.mem_cache.kv_cache_configurator.KVCacheConfigurator._derive_pool_sizes"
_NOTE = "g4diag_tokens_before_split"


def noting(original: Callable[..., Any], configurator: Any, max_total_num_tokens: int, page_size: int) -> Any:
    """The split sizes, and on them what the same bytes hold if every layer is given every token."""
    config = original(configurator, max_total_num_tokens, page_size)
    full_bytes = configurator._full_per_token * configurator._full_layers_num
    swa_bytes = configurator._swa_per_token * configurator._swa_layers_num
    used = full_bytes * config.full_max_total_num_tokens + swa_bytes * config.swa_max_total_num_tokens
    setattr(config, _NOTE, used // (full_bytes + swa_bytes) // page_size * page_size)
    return config


def unadjusted(original: Callable[..., Any], runner: Any, config: Any) -> Any:
    """A draft that is not hybrid gets the tokens of before the split; everyone else what the split says. runner: it or
    its configurator."""
    tokens = getattr(config, _NOTE, None)
    if tokens and runner.is_draft_worker and not runner.is_hybrid_swa:
        config = replace(config, max_total_num_tokens=tokens)
    return original(runner, config=config)


PATCH = Patch(
    name="draft-pool-before-swa-adjustment",
    kind="fault",
    why="An EAGLE draft's pool is smaller than the allocator it shares: its K/V is written and read out of bounds.",
    how="Around the SWA pool configurator and what takes its sizes over: the draft gets the tokens from before it.",
    upstream="sgl-project/sglang#17630 (opened 2026-01-23, merged)",
    releases=">=0.5.13",
    forms=(
        *(
            Form(
                releases,
                (Anchor(_SOLVE, split), Anchor(_DERIVE, "max_total_num_tokens = config.max_total_num_tokens")),
                lambda: (Hook(_SOLVE, "around", noting), Hook(_DERIVE, "around", unadjusted)),
            )
            for releases, split in {
                ">=0.5.21": "return self._make_pool_config(full_tokens, swa_tokens)",
                ">=0.5.16,<0.5.21": "full_max_total_num_tokens=full_tokens,",
            }.items()
        ),
        Form(
            ">=0.5.13,<0.5.16",
            (
                Anchor(_SOLVE, "full_max_total_num_tokens=full_tokens,"),
                Anchor(_APPLY, "self.max_total_num_tokens = config.max_total_num_tokens"),
            ),
            lambda: (Hook(_SOLVE, "around", noting), Hook(_APPLY, "around", unadjusted)),
        ),
    ),
    remove_when="Never: it is an exhibit. Move the anchors when the pools' sizing moves.",
)
