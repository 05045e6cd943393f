"""0.5.23: the process, its arguments, and what a ModelRunner has. See `at_0_5_13` for what each is for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from g4diag.stack.releases.sglang_0_5_23 import RELEASE

SWA_POOL_ARGUMENTS: dict[str, Any] = {}
ABSENT = (
    "msprobe_debugger",
    "canary_manager",
    "eplb_manager",
    "decode_cuda_graph_runner",
    "prefill_cuda_graph_runner",
    "hisparse_coordinator",
    "device_timer",
    "mamba2_config",
    "hybrid_gdn_config",
    "hybrid_lightning_config",
    "lora_manager",
    "watermark_state",
)
_RANKS = ("tp_rank", "pp_rank", "attn_tp_rank", "attn_cp_rank", "attn_dcp_rank", "moe_ep_rank", "moe_dp_rank")
_installed: list[Any] = []


def server_args(**overrides: Any) -> Any:
    """Also publishes them: sglang's own way to have arguments without a model does both at once."""
    import msgspec
    from sglang.srt.model_executor.cuda_graph_config import CudaGraphConfig
    from sglang.srt.runtime_context import get_context

    while _installed:
        _installed.pop().restore()
    given = RELEASE.arguments(overrides)
    if sizes := given.get("cuda_graph_bs_decode"):
        given["cuda_graph_config"] = CudaGraphConfig.from_dict({"decode": {"bs": list(sizes), "max_bs": max(sizes)}})
    override = get_context().override_server_args(**given)
    args = override.install()
    for name, value in given.items():  # what is declared is kept beside the fields; readers of the fields see it too
        msgspec.Struct.__setattr__(args, name, value)
    _installed.append(override)
    parallel = get_context().parallel
    parallel.override_permanently(**{name: 0 for name in _RANKS if hasattr(type(parallel), name)})
    return args


def change_args(args: Any, **values: Any) -> None:
    from sglang.srt.runtime_context import get_context

    get_context().override("g4diag", **values)


def row_headroom(args: Any) -> int:
    from sglang.srt.mem_cache.allocation_sizing import get_req_to_token_extra_context_len

    return int(get_req_to_token_extra_context_len())


def publish(args: Any) -> None:
    from sglang.srt.runtime_context import get_context

    assert get_context().server_args is args, "the arguments of an earlier server"


def start_parallel(args: Any) -> None:
    import torch
    from sglang.srt.distributed import parallel_state
    from sglang.srt.layers import dp_attention

    if not parallel_state.model_parallel_is_initialized():
        parallel_state.init_distributed_environment(world_size=1, rank=0, local_rank=0, backend="gloo")
        parallel_state.initialize_model_parallel(backend="gloo")
    dp_attention.initialize_dp_attention(args)
    sizes = SimpleNamespace(hidden_size=1, dtype=torch.float32, hf_config=SimpleNamespace())
    dp_attention.init_dp_gathered_buffer(sizes)


def bind_stand_ins() -> None:
    from sglang.srt.layers.attention import trtllm_mha_backend

    trtllm_mha_backend.make_persistent_multi_ctas_kv_counter_buffer = _no_counters


def _no_counters(*args: Any, **kwargs: Any) -> Any:
    import torch

    return torch.zeros(1, dtype=torch.int32)


def runner_fields(args: Any) -> dict[str, Any]:
    from sglang.srt.runtime_context import get_parallel

    parallel = get_parallel()
    return {
        "pp_group": parallel.pp_group,
        "tp_group": parallel.tp_group,
        "ngram_embedding_manager": SimpleNamespace(enabled=False),
        "max_total_num_tokens": 4096,
        "max_running_requests": 64,
        "kv_cache_dtype_str": "auto",
        "prefill_attention_backend_str": "trtllm_mha",
        "decode_attention_backend_str": "trtllm_mha",
    }


def begin_runner(runner: Any) -> None:
    runner.model.shared_experts_config = None  # what the model loader leaves on one without experts
    runner.init_kv_index_translator()


def finish_runner(runner: Any) -> None:
    from sglang.srt.model_executor.runner.eager_runner import EagerRunner

    runner.eager_runner = EagerRunner(runner, run_warmup=False)


def model_config(config: Any) -> dict[str, Any]:
    return {
        "get_num_kv_heads": lambda tp_size, *rest: max(1, config.num_key_value_heads // tp_size),
        "get_max_num_attention_heads": lambda *rest: config.num_attention_heads,
        "v_head_dim": config.head_dim,
        "swa_head_dim": config.head_dim,
        "is_hybrid_swa": True,
        "requires_mm_token_modalities": False,
        "model_is_mrope": False,
    }


def copy_eager_inputs(runner: Any) -> None:
    """The eager runner of this release copies always."""
