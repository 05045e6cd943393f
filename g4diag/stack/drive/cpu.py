"""Drive sglang's real classes on a machine without a GPU: the seams, and nothing else.

`prepare_environment` must run before the first import of triton or sglang; the CLI and the test suite call
it first. `CpuModelRunner` is the real ModelRunner without its constructor (which would load weights, start
CUDA and profile memory): its `forward` and all that it calls are sglang's own.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from g4diag.errors import CannotRunError
from g4diag.stack.drive import sgl_kernel_stand_in

ENVIRONMENT = {
    "TRITON_INTERPRET": "1",  # the allocator's Triton kernels run interpreted
    "TORCH_COMPILE_DISABLE": "1",  # the first draft step would compile for 20 s
    "SGLANG_FLASHINFER_WORKSPACE_SIZE": str(1 << 20),
    "SGLANG_USE_CPU_ENGINE": "1",  # model layers take their torch paths
}


def prepare_environment() -> None:
    """Set the process up for CPU driving. Raises CannotRunError if triton or sglang was imported before."""
    late = [m for m in ("triton", "sglang") if m in sys.modules and os.environ.get("TRITON_INTERPRET") != "1"]
    if late:
        raise CannotRunError(f"{late[0]} was imported before g4diag could set {', '.join(ENVIRONMENT)}")
    os.environ.update(ENVIRONMENT)
    sgl_kernel_stand_in.install()
    warnings.filterwarnings("ignore", module=r"sglang\..*")
    logging.getLogger("sglang").setLevel(logging.ERROR)


def server_args(**overrides: Any) -> Any:
    """A real ServerArgs with its dataclass defaults and `overrides`, without `__post_init__` (which wants a model)."""
    from sglang.srt.server_args import ServerArgs

    args = object.__new__(ServerArgs)
    for field in dataclasses.fields(ServerArgs):
        if field.default is not dataclasses.MISSING:
            setattr(args, field.name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            setattr(args, field.name, field.default_factory())
    for name, value in (overrides | {"device": "cpu"}).items():
        setattr(args, name, value)
    return args


_process_is_ready = False


def start_process(args: Any) -> None:
    """Publish `args` as the global server args, drop an earlier server's input buffers, and once a process: a
    one-rank gloo group, parallel state, and what sglang leaves unbound without CUDA: the name `flashinfer` in the
    trtllm_mha backend, and FlashInfer's wrapper classes (no-ops here: trtllm_mha builds them and never calls them)."""
    global _process_is_ready
    import flashinfer
    import torch
    from sglang.srt.distributed import parallel_state
    from sglang.srt.layers import dp_attention
    from sglang.srt.layers.attention import flashinfer_backend, trtllm_mha_backend
    from sglang.srt.model_executor import input_buffers
    from sglang.srt.server_args import set_global_server_args_for_scheduler

    set_global_server_args_for_scheduler(args)
    # A graph runner captures over these, and token ids that an earlier server left may be past this one's vocabulary.
    input_buffers._forward_input_buffer_pool.clear()
    if _process_is_ready:
        return
    torch.set_num_threads(1)  # tensors are tiny: a second thread only waits at barriers, and badly so on a busy machine
    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(backend="gloo", store=store, rank=0, world_size=1)
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.init_distributed_environment(world_size=1, rank=0, local_rank=0, backend="gloo")
        parallel_state.initialize_model_parallel(1, backend="gloo")
    sizes = SimpleNamespace(hidden_size=1, dtype=torch.float32)
    dp_attention.initialize_dp_attention(args, sizes)
    for kind in ("DecodeWithPaged", "PrefillWithPaged", "PrefillWithRagged"):
        _bind_unless_present(flashinfer_backend, f"Batch{kind}KVCacheWrapper", _NeverCalledWrapper)
    _bind_unless_present(trtllm_mha_backend, "flashinfer", flashinfer)
    _process_is_ready = True


class _NeverCalledWrapper:
    """Stands where a FlashInfer wrapper would; any use of it is an error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def _bind_unless_present(module: Any, name: str, value: Any) -> None:
    if not hasattr(module, name):
        setattr(module, name, value)


@contextmanager
def attention_kernels(decode: Callable[..., Any], prefill: Callable[..., Any]) -> Iterator[None]:
    """Put references where FlashInfer's two trtllm kernels are, for the body. Each is called with the arguments
    bound through the real function's signature, so an argument that FlashInfer would refuse is refused here."""
    import inspect

    import flashinfer

    kernels = (
        (flashinfer.decode, "trtllm_batch_decode_with_kv_cache", decode),
        (flashinfer.prefill, "trtllm_batch_context_with_kv_cache", prefill),
    )
    originals = [getattr(module, name) for module, name, _ in kernels]

    def bound(original: Callable[..., Any], reference: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def call(*args: Any, **kwargs: Any) -> Any:
            arguments = signature.bind(*args, **kwargs)
            arguments.apply_defaults()
            return reference(**arguments.arguments)

        return call

    try:
        for (module, name, reference), original in zip(kernels, originals, strict=True):
            setattr(module, name, bound(original, reference))
        yield
    finally:
        for (module, name, _), original in zip(kernels, originals, strict=True):
            setattr(module, name, original)


def model_runner(
    model: Any,
    config: Any,
    args: Any,
    *,
    request_pool: Any,
    allocator: Any,
    kv_pool: Any,
    context_len: int,
    is_draft: bool,
    algorithm: str | None,
) -> Any:
    """A real ModelRunner around `model`, made without its constructor. Its `attn_backend` is still to be set.

    config: the model's Gemma4TextConfig. kv_pool: what this runner calls its own pool. algorithm: the value of
    --speculative-algorithm, e.g. "FROZEN_KV_MTP".
    """
    import torch
    from sglang.srt.distributed import get_pp_group, get_tp_group
    from sglang.srt.model_executor.model_runner import ModelRunner
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    runner = object.__new__(ModelRunner)
    for name in _ABSENT:
        try:
            setattr(runner, name, None)
        except AttributeError:  # a read-only property that finds nothing by itself
            continue
    runner.__dict__.update(
        _PLAIN,
        model=model,
        model_config=_model_config(config, context_len),
        server_args=args,
        dtype=torch.float32,
        kv_cache_dtype=torch.float32,
        page_size=args.page_size,
        pp_group=get_pp_group(),
        tp_group=get_tp_group(),
        is_draft_worker=is_draft,
        sliding_window_size=model.get_attention_sliding_window_size(),
        spec_algorithm=SpeculativeAlgorithm.from_string(algorithm),
        req_to_token_pool=request_pool,
        token_to_kv_pool_allocator=allocator,
        token_to_kv_pool=kv_pool,
    )
    return runner


def copy_eager_inputs(runner: Any) -> None:
    """Have `runner.forward_decode` copy its inputs first, through its own `_eager_fb_view`. Upstream's line does it
    when the device is "cuda"; the registry and its slots are plain tensor copies."""
    from sglang.srt.model_executor.model_runner import ModelRunner, _EagerBufferRegistry

    runner._eager_decode_registry = _EagerBufferRegistry()

    def forward_decode(forward_batch: Any, pp_proxy_tensors: Any = None) -> Any:
        copied = runner._eager_fb_view(forward_batch, pp_proxy_tensors)
        return ModelRunner.forward_decode(runner, copied, pp_proxy_tensors)

    runner.forward_decode = forward_decode


_ABSENT = (
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
_PLAIN = {
    "device": "cpu",
    "gpu_id": 0,
    "tp_size": 1,
    "dp_size": 1,
    "support_pp": False,
    "forward_pass_id": 0,
    "is_generation": True,
    "is_multimodal": False,
    "enable_elastic_ep": False,
    "use_ngram_embedding": False,
    "model_is_mrope": False,
}


def _model_config(config: Any, context_len: int) -> Any:
    import torch

    return SimpleNamespace(
        context_len=context_len,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        get_num_kv_heads=lambda tp_size: max(1, config.num_key_value_heads // tp_size),
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        dtype=torch.float32,
        is_multimodal=False,
        is_encoder_decoder=False,
        hf_config=SimpleNamespace(architectures=["Gemma4ForCausalLM"]),
        hf_text_config=config,
    )
