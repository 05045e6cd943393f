"""How 0.5.23's classes are driven on a CPU. The same functions as `at_0_5_13`, where each says what it is for.

What moved: arguments are a struct that sglang publishes in its runtime context; eager forwards go through a runner of
their own; a request's row and lengths lie in `req.kv`; Gemma-4 is served by the unified prefix cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    get_context().parallel.override_permanently(**_ONE_RANK)
    return args


_ONE_RANK = {"tp_rank": 0, "pp_rank": 0, "attn_tp_rank": 0, "attn_cp_rank": 0, "moe_ep_rank": 0, "moe_dp_rank": 0}


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


def forward_batch(batch: Any, runner: Any, hidden: str) -> Any:
    from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch

    mode = None if hidden == "NULL" else CaptureHiddenMode[hidden]
    return ForwardBatch.init_new(batch, runner, capture_hidden_mode=mode, return_hidden_states_before_norm=False)


def tree_cache(**arguments: Any) -> Any:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.unified_cache.components import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    components = (ComponentType.FULL, ComponentType.SWA)
    return UnifiedRadixCache(CacheInitParams(disable=False, tree_components=components, **arguments))


def held(req: Any) -> Any:
    return req.kv


def row_holder() -> Any:
    from sglang.srt.managers.schedule_batch import ReqKvInfo

    return SimpleNamespace(kv=ReqKvInfo())


def evicted_len(req: Any) -> int:
    from sglang.srt.mem_cache.unified_cache.components import ComponentType

    return int(req.kv.get_evicted_seqlen(ComponentType.SWA))


def prefix_len(req: Any) -> int:
    return int(req.prefix_len)


def prefill_end(req: Any) -> int:
    return int(req.extend_end)


def stash(req: Any, cache: Any, *, chunked: bool) -> None:
    from sglang.srt.mem_cache.common import checkpoint_kv_cache

    checkpoint_kv_cache(req, cache)


def release(req: Any, cache: Any) -> None:
    from sglang.srt.mem_cache.common import release_kv_cache

    release_kv_cache(req, cache, checkpoint=True)


def write_kv(pool: Any, layer: Any, full: Any, swa: Any, k: Any, v: Any) -> None:
    from sglang.srt.mem_cache.memory_pool import KVWriteLoc

    pool.set_kv_buffer(layer, KVWriteLoc(full, swa), k, v)


def draft_worker(
    args: Any, target_runner: Any, draft_runner: Any, *, request_pool: Any, allocator: Any, target_model: Any
) -> Any:
    from sglang.srt.speculative.frozen_kv_mtp_worker_v2 import FrozenKVMTPDraftWorker

    worker = object.__new__(FrozenKVMTPDraftWorker)
    worker.__dict__.update(
        server_args=args,
        topk=args.speculative_eagle_topk,
        speculative_num_steps=args.speculative_num_steps,
        speculative_num_draft_tokens=args.speculative_num_draft_tokens,
        device="cpu",
        page_size=args.page_size,
        target_worker=SimpleNamespace(model_runner=target_runner, device="cpu"),
        req_to_token_pool=request_pool,
        token_to_kv_pool_allocator=allocator,
        _model_runner=draft_runner,
        kv_context=None,
        hot_token_id=None,
    )
    draft_runner.model.set_embed_and_head(*target_model.get_embed_and_head())
    worker._bind_kv_context()
    worker.draft_attn_backend = worker._init_draft_attn_backend()
    return worker


def graph_runner(worker: Any) -> Any:
    from sglang.srt.speculative import frozen_kv_mtp_cuda_graph_runner as module

    class ClosureGraphRunner(module.FrozenKVMTPCudaGraphRunner):
        """Captures each size in turn, largest first, without a stream."""

        def capture(self) -> None:
            for size in reversed(self.capture_bs):
                self.capture_one_shape(size, None)

    with _closures(module):
        return ClosureGraphRunner(worker)


def plan_graph(backend: Any, batch: Any, *, in_capture: bool) -> None:
    backend.init_forward_metadata_out_graph(batch, in_capture=in_capture)
    backend.init_forward_metadata_in_graph(batch)  # recorded in the graph, and run by each replay


def replay(graphs: Any, batch: Any) -> Any:
    return graphs.execute(batch)


@contextmanager
def _closures(module: Any) -> Iterator[None]:
    """For the body, a graph runner is given a backend whose graphs are closures."""
    resolve = module.resolve_decode_backend
    module.resolve_decode_backend = lambda runner: Closures()
    try:
        yield
    finally:
        module.resolve_decode_backend = resolve


class Closures:
    """A graph is the captured closure, called again over the same static buffers."""

    def __init__(self) -> None:
        self._graphs: dict[Any, Callable[[], Any]] = {}

    def capture_one(self, shape_key: Any, forward_fn: Callable[[], Any], *args: Any, **kwargs: Any) -> None:
        """Run once as a warm-up, once as the capture."""
        forward_fn()
        self._graphs[shape_key] = forward_fn
        forward_fn()

    def can_run(self, forward_batch: Any, shape_key: Any) -> bool:
        """Whether that shape was captured."""
        return shape_key in self._graphs

    def replay(self, shape_key: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the captured closure over what the buffers hold now."""
        return self._graphs[shape_key]()
