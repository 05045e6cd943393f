"""What 0.5.23's drafts are made of and carry. The same as `at_0_5_13_drafts`, where each says what it is.

What moved: the frozen-KV worker is spec v2's; an EAGLE draft extends over all draft tokens, accepted or not; pools are
made by a configurator; a batch carries a plan of its write locations.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

DRAFT_EXTEND = "DRAFT_EXTEND_V2"
EXTENDS_ALL_DRAFTS = True
_KERNELS = "sglang.kernels.ops.attention"
TABLE_KERNELS = {
    "eager": f"{_KERNELS}.trtllm_mha_page_table.create_trtllm_mha_kv_indices_triton",
    "graph": f"{_KERNELS}.trtllm_mha_graph_metadata.update_trtllm_mha_graph_metadata_kernel",
}


def extra_context(args: Any) -> int:
    from sglang.srt.mem_cache.allocation_sizing import get_req_to_token_extra_context_len

    return int(get_req_to_token_extra_context_len())


def frozen_worker(args: Any, runner: Any, kv_context: Any) -> Any:
    from sglang.srt.speculative.frozen_kv_mtp_worker_v2 import FrozenKVMTPDraftWorker

    from g4diag.stack.drive.frozen_worker import worker_fields

    worker = object.__new__(FrozenKVMTPDraftWorker)
    worker.__dict__.update(worker_fields(args, runner, kv_context), hot_token_id=None)
    return worker


def give_own_pool(runner: Any, full_tokens: int, page_size: int, split: Any) -> None:
    """The configurator is made without its constructor; the draft takes the size of the target's full pool."""
    from sglang.srt.mem_cache.kv_cache_configurator import KVCacheConfigurator
    from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool
    from sglang.srt.model_executor.pool_configurator import MemoryPoolConfig

    made = object.__new__(KVCacheConfigurator)
    fields = {
        "device": "cpu",
        "model_config": runner.model_config,
        "kv_cache_dtype": runner.kv_cache_dtype,
        "kv_cache_dtype_str": "auto",
        "is_draft_worker": True,
        "is_hybrid_swa": False,
        "kv_shard_rank": None,
        "post_capture_kv_active": False,
        "layer_info": SimpleNamespace(num_effective_layers=2, start_layer=0, end_layer=2),
    }
    for name, value in fields.items():
        setattr(made, name, value)

    class Pool(MHATokenToKVPool):
        """Without the warm-up of a copy that nothing here asks for, by a kernel of sgl_kernel's."""

        def _init_kv_copy_and_warmup(self) -> None:
            pass

    sizes = made._derive_pool_sizes(config=MemoryPoolConfig(max_total_num_tokens=full_tokens, max_running_requests=4))
    runner.token_to_kv_pool = made._build_mha_kv_pool(
        max_total_num_tokens=sizes.max_total_num_tokens, mha_pool_class=Pool
    )
    runner.init_kv_index_translator()


def bind_plan(runner: Any, batch: Any) -> None:
    runner.kv_index_translator.bind_own_plan(batch)


def recorded_forward(runner: Any, backend: Any, batch: Any) -> Any:
    """The model alone: the eager runner would plan a verify anew."""
    from sglang.srt.model_executor.forward_context import ForwardContext, forward_context

    context = ForwardContext(attn_backend=backend)
    with runner.eager_runner.model_context(), forward_context(context, forward_batch=batch):
        return runner.model.forward(batch.input_ids, batch.positions, batch)


def eagle_extend(accepted_B: Any, accepted: list[int] | None, width: int) -> Any:
    from sglang.srt.speculative.eagle_info import EagleDraftExtendInput

    return EagleDraftExtendInput(
        num_accept_tokens=accepted_B,
        num_accept_tokens_cpu=accepted,
        num_correct_drafts=accepted_B - 1,
        num_tokens_per_req=width,
        num_tokens_for_logprob_per_req=width,
    )
