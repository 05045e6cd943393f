"""0.5.23: backends and drafts driven by hand. See `at_0_5_13_fixtures` for what each is for.

What moved: the frozen-KV worker is spec v2's; an EAGLE draft extends over all draft tokens, accepted or not; tables are
made by kernels; a configurator refuses an SWA pool that is as tiny as a machine's.
"""

from __future__ import annotations

from typing import Any

DRAFT_EXTEND = "DRAFT_EXTEND_V2"
EXTENDS_ALL_DRAFTS = True
_KERNELS = "sglang.kernels.ops.attention"
TABLE_KERNELS = {
    "eager": f"{_KERNELS}.trtllm_mha_page_table.create_trtllm_mha_kv_indices_triton",
    "graph": f"{_KERNELS}.trtllm_mha_graph_metadata.update_trtllm_mha_graph_metadata_kernel",
}


def speculation(drafts: int) -> dict[str, Any]:
    return {}


def frozen_worker(args: Any, runner: Any, kv_context: Any) -> Any:
    from sglang.srt.speculative.frozen_kv_mtp_worker_v2 import FrozenKVMTPDraftWorker

    from g4diag.stack.drive.frozen_worker import worker_fields

    worker = object.__new__(FrozenKVMTPDraftWorker)
    worker.__dict__.update(worker_fields(args, runner, kv_context), hot_token_id=None)
    return worker


def draft_sizes(runner: Any, model_config: Any, tokens: int, ratio: float) -> Any:
    """A draft takes the size of the target's full pool, which the split leaves as it is."""
    from sglang.srt.model_executor.pool_configurator import MemoryPoolConfig

    swa = int(tokens * ratio)
    return MemoryPoolConfig(
        max_total_num_tokens=tokens,
        max_running_requests=runner.max_running_requests,
        full_max_total_num_tokens=tokens,
        swa_max_total_num_tokens=swa,
    )


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
