"""What 0.5.13's drafts are made of and carry, where later releases do it another way.

`stack/drive` asks `driver().DRAFTS` for these by name. Arguments and results are sglang's own objects.
"""

from __future__ import annotations

from typing import Any

# The ForwardMode in which an EAGLE draft writes K/V of what a verify accepted.
DRAFT_EXTEND = "DRAFT_EXTEND"
# Whether it does so for all draft tokens of each request, accepted or not.
EXTENDS_ALL_DRAFTS = False
# Kernels that make trtllm_mha's tables: of an "eager" step, and the one that a "graph" records.
TABLE_KERNELS: dict[str, str] = {}


def extra_context(args: Any) -> int:
    """Tokens that a row of req_to_token has beyond the context."""
    from sglang.srt.mem_cache.common import get_req_to_token_extra_context_len

    return int(get_req_to_token_extra_context_len(args))


def frozen_worker(args: Any, runner: Any, kv_context: Any) -> Any:
    """A frozen-KV draft's worker around a runner that has its backend, made without its constructor; no graph runner
    yet. args: speculation with topk 1."""
    from sglang.srt.speculative.frozen_kv_mtp_worker import FrozenKVMTPWorker

    from g4diag.stack.drive.frozen_worker import worker_fields

    worker = object.__new__(FrozenKVMTPWorker)
    worker.__dict__.update(worker_fields(args, runner, kv_context))
    return worker


def give_own_pool(runner: Any, full_tokens: int, page_size: int, split: Any) -> None:
    """Have an EAGLE draft's runner, full throughout with two layers, make its pool by its own code. full_tokens: of
    the target's full pool. split: what a HybridSWAPoolConfigurator reads of the target."""
    from sglang.srt.model_executor.pool_configurator import HybridSWAPoolConfigurator

    config = runner.model_config
    runner.__dict__.update(is_hybrid_swa=False, use_mla_backend=False, enable_hisparse=False)
    runner.__dict__.update(start_layer=0, end_layer=2, num_effective_layers=2, _linear_attn_registry_cache=None)
    config.v_head_dim = config.head_dim
    config.hf_config.get_text_config = lambda: config.hf_text_config
    sizes = HybridSWAPoolConfigurator(split).calculate_pool_sizes_from_max_tokens(full_tokens, page_size)
    runner._apply_memory_pool_config(sizes)


def bind_plan(runner: Any, batch: Any) -> None:
    """What a forward's batch that was made by hand is given by the runner before it is planned: nothing."""


def recorded_forward(runner: Any, backend: Any, batch: Any) -> Any:
    """What a graph runs of the runner's forward through this backend: here the whole of it, planned already."""
    from g4diag.stack.drive.forwards import forward_through

    return forward_through(runner, backend)(batch)


def eagle_extend(accepted_B: Any, accepted: list[int] | None, width: int) -> Any:
    """What an EAGLE draft extend carries. accepted_B: int64 [batch] tensor of tokens that each row was left with;
    accepted: the same on the host, None for padding only. width: tokens a row in a graph."""
    from sglang.srt.speculative.eagle_info import EagleDraftExtendInput

    return EagleDraftExtendInput(num_accept_tokens=accepted_B, num_accept_tokens_cpu=accepted)
