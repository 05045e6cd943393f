"""0.5.23: pool sizes, which a configurator solves for the target and a draft takes over. See `at_0_5_13`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.at_0_5_23.process import change_args


def make_own_pool(runner: Any, sizes: Any, layers: int) -> None:
    """Through the runner's own configurator, as its alloc_memory_pool does before it wires canaries and the like."""
    layer_info = SimpleNamespace(
        start_layer=0,
        end_layer=layers,
        num_effective_layers=layers,
        is_hybrid_swa_mtp_draft=False,
        swa_attention_layer_ids=[],
    )
    runner.__dict__.update(
        layer_info=layer_info,
        memory_pool_config=sizes,
        spec_aux_config=SimpleNamespace(),
        is_hybrid_swa_compress=False,
        forward_stream=None,
        draft_model_idx=None,
    )
    runner.model_config.linear_attn_registry_result = None
    runner.init_kv_cache_configurator()
    with _no_copy_to_warm_up():
        result = runner.kv_cache_configurator.configure(pre_model_load_memory=0)
    runner.token_to_kv_pool = result.token_to_kv_pool
    runner.init_kv_index_translator()


@contextmanager
def _no_copy_to_warm_up() -> Iterator[None]:
    """For the body, a pool does not call the kernel that copies K/V about, which nothing here needs."""
    from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

    warm_up = MHATokenToKVPool._init_kv_copy_and_warmup
    MHATokenToKVPool._init_kv_copy_and_warmup = lambda pool: None
    try:
        yield
    finally:
        MHATokenToKVPool._init_kv_copy_and_warmup = warm_up


def split_tokens(runner: Any, model_config: Any, tokens: int, ratio: float) -> Any:
    from sglang.srt.model_executor.pool_configurator import HybridSWAPoolConfigurator

    change_args(runner.server_args, swa_full_tokens_ratio=ratio)
    asking: Any = SimpleNamespace(
        model_config=model_config,
        layer_info=model_config,
        kv_cache_dtype=runner.kv_cache_dtype,
        kv_cache_dtype_str="auto",
        sliding_window_size=runner.sliding_window_size,
        page_size=runner.page_size,
        spec_algorithm=runner.spec_algorithm,
        spec_aux_config=SimpleNamespace(eagle_draft_num_layers=None),
        is_draft_worker=False,
        fused_entry_bytes=lambda side: None,
    )
    return HybridSWAPoolConfigurator(asking).calculate_pool_sizes_from_max_tokens(tokens, runner.page_size)
