"""How 0.5.13's classes are driven on a CPU, where later releases do it another way.

`stack/drive` asks `driver()` for these by name. Arguments and results are sglang's own objects.
"""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive import at_0_5_13_fixtures, at_0_5_13_scheduling
from g4diag.stack.drive.at_0_5_13_graphs import extend_batch as extend_batch
from g4diag.stack.drive.at_0_5_13_graphs import extend_runner as extend_runner
from g4diag.stack.drive.at_0_5_13_graphs import graph_runner as graph_runner
from g4diag.stack.drive.at_0_5_13_graphs import plan_graph as plan_graph
from g4diag.stack.drive.at_0_5_13_graphs import replay as replay
from g4diag.stack.drive.at_0_5_13_graphs import replay_extend as replay_extend
from g4diag.stack.drive.at_0_5_13_graphs import steps_batch as steps_batch
from g4diag.stack.drive.at_0_5_13_graphs import steps_runner as steps_runner

FIXTURES, SCHEDULING = at_0_5_13_fixtures, at_0_5_13_scheduling
SWA_POOL_ARGUMENTS: dict[str, Any] = {"enable_kvcache_transpose": False}
ABSENT = (
    "msprobe_debugger",
    "canary_manager",
    "eplb_manager",
    "graph_runner",
    "piecewise_cuda_graph_runner",
    "hisparse_coordinator",
    "device_timer",
    "mamba2_config",
    "hybrid_gdn_config",
    "hybrid_lightning_config",
)


def server_args(**overrides: Any) -> Any:
    """A real ServerArgs with its dataclass defaults and `overrides`, without `__post_init__` (which wants a model)."""
    from sglang.srt.server_args import ServerArgs

    args = object.__new__(ServerArgs)
    for field in dataclasses.fields(ServerArgs):
        if field.default is not dataclasses.MISSING:
            setattr(args, field.name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            setattr(args, field.name, field.default_factory())
    for name, value in overrides.items():
        setattr(args, name, value)
    return args


def change_args(args: Any, **values: Any) -> None:
    """Arguments of a server that runs already, for whoever reads them from here on."""
    for name, value in values.items():
        setattr(args, name, value)


def row_headroom(args: Any) -> int:
    """Columns of req_to_token beyond the context."""
    from sglang.srt.mem_cache.common import get_req_to_token_extra_context_len

    return int(get_req_to_token_extra_context_len(args))


def publish(args: Any) -> None:
    """Make them the process's."""
    from sglang.srt.server_args import set_global_server_args_for_scheduler

    set_global_server_args_for_scheduler(args)


def start_parallel(args: Any) -> None:
    """Once a process: parallel state of one rank."""
    import torch
    from sglang.srt.distributed import parallel_state
    from sglang.srt.layers import dp_attention

    if not parallel_state.model_parallel_is_initialized():
        parallel_state.init_distributed_environment(world_size=1, rank=0, local_rank=0, backend="gloo")
        parallel_state.initialize_model_parallel(1, backend="gloo")
    dp_attention.initialize_dp_attention(args, SimpleNamespace(hidden_size=1, dtype=torch.float32))


def bind_stand_ins() -> None:
    """Once a process: bind what a backend's constructor asks a GPU for, and its metadata never uses."""


def runner_fields(args: Any) -> dict[str, Any]:
    """What a ModelRunner has besides what every release's has."""
    from sglang.srt.distributed import get_pp_group, get_tp_group

    return {"tp_size": 1, "dp_size": 1, "pp_group": get_pp_group(), "tp_group": get_tp_group()}


def begin_runner(runner: Any) -> None:
    """Called when the runner has its pools."""


def finish_runner(runner: Any) -> None:
    """Called when the runner has its backend."""


def make_own_pool(runner: Any, sizes: Any, layers: int) -> None:
    """A draft's runner makes its K/V pool of the sizes that were solved for the target."""
    runner.__dict__.update(start_layer=0, end_layer=layers, num_effective_layers=layers)
    runner._linear_attn_registry_cache = None
    runner._apply_memory_pool_config(sizes)


def split_tokens(runner: Any, model_config: Any, tokens: int, ratio: float) -> Any:
    """The target's pool sizes by sglang's own split of so many full tokens. model_config: its layers and head sizes.
    ratio: SWA tokens a full token."""
    from sglang.srt.model_executor.pool_configurator import HybridSWAPoolConfigurator

    asking: Any = SimpleNamespace(
        model_config=model_config,
        kv_cache_dtype=runner.kv_cache_dtype,
        server_args=SimpleNamespace(swa_full_tokens_ratio=ratio),
    )
    return HybridSWAPoolConfigurator(asking).calculate_pool_sizes_from_max_tokens(tokens, runner.page_size)


def model_config(config: Any) -> dict[str, Any]:
    """What a ModelConfig has besides what every release's has. config: the model's Gemma4TextConfig."""
    return {"get_num_kv_heads": lambda tp_size: max(1, config.num_key_value_heads // tp_size)}


def copy_eager_inputs(runner: Any) -> None:
    """Have the runner's decode copy its inputs first, through its own `_eager_fb_view`. Upstream's line does it when
    the device is "cuda"; the registry and its slots are plain tensor copies."""
    from sglang.srt.model_executor.model_runner import ModelRunner, _EagerBufferRegistry

    runner._eager_decode_registry = _EagerBufferRegistry()

    def forward_decode(forward_batch: Any, pp_proxy_tensors: Any = None) -> Any:
        copied = runner._eager_fb_view(forward_batch, pp_proxy_tensors)
        return ModelRunner.forward_decode(runner, copied, pp_proxy_tensors)

    runner.forward_decode = forward_decode


def forward_batch(batch: Any, runner: Any, hidden: str) -> Any:
    """The ForwardBatch of a ScheduleBatch. hidden: the CaptureHiddenMode's name, "NULL" to leave it."""
    from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch

    if hidden != "NULL":
        batch.capture_hidden_mode = CaptureHiddenMode[hidden]
    return ForwardBatch.init_new(batch, runner)


def tree_cache(**arguments: Any) -> Any:
    """The prefix cache that serves a hybrid SWA model. arguments: CacheInitParams'."""
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.swa_radix_cache import SWARadixCache

    return SWARadixCache(CacheInitParams(disable=False, **arguments))


def held(req: Any) -> Any:
    """What holds a request's row and lengths."""
    return req


def row_holder() -> Any:
    """Something that can be given a row as a request is."""
    return SimpleNamespace(req_pool_idx=None)


def evicted_len(req: Any) -> int:
    """Leading tokens whose SWA slots the window has left behind."""
    return int(req.swa_evicted_seqlen)


def prefix_len(req: Any) -> int:
    """Leading tokens that had K/V before this prefill."""
    return len(req.prefix_indices)


def prefill_end(req: Any) -> int:
    """Leading tokens that have K/V after it."""
    return int(req.fill_len)


def stash(req: Any, cache: Any, *, chunked: bool) -> None:
    """Share with the cache what a running request has computed. chunked: it has chunks to come."""
    from sglang.srt.mem_cache.common import maybe_cache_unfinished_req

    maybe_cache_unfinished_req(req, cache, chunked=chunked)


def retract(batch: Any, args: Any) -> tuple[list[Any], list[Any]]:
    """Make room for the next decode: (requests that lost their K/V and may come again, requests that never fit)."""
    retracted, _, aborted = batch.retract_decode(args)
    return list(retracted), list(aborted)


def evict_every(tokens: int) -> AbstractContextManager[Any]:
    """For the body, what the window has left behind is evicted whenever it is so many tokens, where a release has a
    number for that (128); 0.5.13 takes the window's own length."""
    return nullcontext()


def claimed_slots(cache: Any) -> Any:
    """int64[N]: the full slots of the nodes of a prefix cache that claim SWA K/V."""
    import torch

    return torch.cat([node.value for node in cache._collect_nontombstone_nodes() if len(node.value)])


def release(req: Any, cache: Any) -> None:
    """A finished request's K/V goes to the cache, its row back to the pool."""
    from sglang.srt.mem_cache.common import release_kv_cache

    release_kv_cache(req, cache)


def write_kv(pool: Any, layer: Any, full: Any, swa: Any, k: Any, v: Any) -> None:
    """A hybrid pool's write. full, swa: int64 slots in either space."""
    pool.set_kv_buffer(layer, full, k, v, swa_loc=swa)


def handed_to_draft(worker: Any, batch: Any) -> Any:
    """The ForwardBatch that a frozen-KV draft loop is handed for a ScheduleBatch, as 0.5.13's draft() leaves it."""
    made = forward_batch(batch, worker.draft_model_runner, "NULL")
    worker._set_positions(made)
    return made


def draft_worker(
    args: Any, target_runner: Any, draft_runner: Any, *, request_pool: Any, allocator: Any, target_model: Any
) -> Any:
    """A frozen-KV draft's worker, made without its constructor; what that sets is set here, in its order."""
    from sglang.srt.speculative.frozen_kv_mtp_worker import FrozenKVMTPWorker

    worker = object.__new__(FrozenKVMTPWorker)
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
    )
    draft_runner.model.set_embed_and_head(*target_model.get_embed_and_head())
    worker._bind_kv_context()
    worker.draft_attn_backend = worker._init_draft_attn_backend()
    return worker


def bind_plan(runner: Any, batch: Any) -> None:
    """Give a batch that was made by hand what ForwardBatch.init_new would leave on it for this runner's pools."""


def fused_write() -> AbstractContextManager[Any]:
    """For the body, the kernel of a fused FP8 write runs on the CPU: interpreted, here."""
    return nullcontext()
