"""Drive sglang's real classes on a machine without a GPU: the seams, and nothing else.

`prepare_environment` must run before the first import of triton or sglang; the CLI and the test suite call
it first. `CpuModelRunner` is the real ModelRunner without its constructor (which would load weights, start
CUDA and profile memory): its `forward` and all that it calls are sglang's own.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from g4diag.errors import CannotRunError
from g4diag.stack.drive import flash_attention, sgl_kernel_stand_in
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.reference_kernel import bound, decoding

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


def use_one_thread() -> None:
    """Torch computes in this thread alone. CannotRunError without a torch that imports."""
    try:
        import torch
    except ImportError as error:
        raise CannotRunError(f"torch: wanted one that imports, found {error}") from error
    torch.set_num_threads(1)


def server_args(**overrides: Any) -> Any:
    """A real ServerArgs of the installed release with its defaults and `overrides`, without what wants a model."""
    return driver().server_args(**(overrides | {"device": "cpu"}))


_has_ranks = _process_is_ready = False


def start_process(args: Any) -> None:
    """As `start_ranks`; besides, drop an earlier server's input buffers, and once a process: what sglang leaves unbound
    without CUDA, the name `flashinfer` in the trtllm_mha backend and what `bind_wrappers` binds."""
    global _process_is_ready
    import flashinfer
    from sglang.srt.layers.attention import trtllm_mha_backend
    from sglang.srt.model_executor import input_buffers

    start_ranks(args)
    # A graph runner captures over these, and token ids that an earlier server left may be past this one's vocabulary.
    input_buffers._forward_input_buffer_pool.clear()
    if _process_is_ready:
        return
    bind_wrappers()
    _bind_unless_present(trtllm_mha_backend, "flashinfer", flashinfer)
    driver().bind_stand_ins()
    _process_is_ready = True


def start_ranks(args: Any) -> None:
    """Publish `args` as the global server args, and once a process: a one-rank gloo group and parallel state."""
    global _has_ranks
    import torch

    driver().publish(args)
    if _has_ranks:
        return
    torch.set_num_threads(1)  # tensors are tiny: a second thread only waits at barriers, and badly so on a busy machine
    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(backend="gloo", store=store, rank=0, world_size=1)
    driver().start_parallel(args)
    _has_ranks = True


def bind_wrappers() -> None:
    """FlashInfer's wrapper classes, where sglang found none to import. No-ops: a backend builds them, and nothing here
    calls them."""
    from sglang.srt.layers.attention import flashinfer_backend

    for kind in ("DecodeWithPaged", "PrefillWithPaged", "PrefillWithRagged"):
        _bind_unless_present(flashinfer_backend, f"Batch{kind}KVCacheWrapper", _NeverCalledWrapper)


class _NeverCalledWrapper:
    """Stands where a FlashInfer wrapper would; any use of it is an error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def _bind_unless_present(module: Any, name: str, value: Any) -> None:
    if not hasattr(module, name):
        setattr(module, name, value)


@contextmanager
def attention_kernels(decode: Callable[..., Any], prefill: Callable[..., Any]) -> Iterator[None]:
    """Put references where FlashInfer's two trtllm kernels are, and those of the other backends driven here, for the
    body. Each is called with arguments bound through the real function's signature, so that what it would refuse is
    refused here."""
    import flashinfer

    kernels = (
        (flashinfer.decode, "trtllm_batch_decode_with_kv_cache", decode),
        (flashinfer.prefill, "trtllm_batch_context_with_kv_cache", prefill),
    )
    originals = [getattr(module, name) for module, name, _ in kernels]

    try:
        for (module, name, reference), original in zip(kernels, originals, strict=True):
            setattr(module, name, bound(original, reference))
        with flash_attention.kernel(decode, prefill), decoding(decode):
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
    from sglang.srt.model_executor.model_runner import ModelRunner
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    runner = object.__new__(ModelRunner)
    for name in driver().ABSENT:
        try:
            setattr(runner, name, None)
        except AttributeError:  # a read-only property that finds nothing by itself
            continue
    runner.__dict__.update(
        sizes_of_runner(config, args, context_len),
        model=model,
        is_draft_worker=is_draft,
        sliding_window_size=model.get_attention_sliding_window_size(),
        spec_algorithm=SpeculativeAlgorithm.from_string(algorithm),
        req_to_token_pool=request_pool,
        token_to_kv_pool_allocator=allocator,
        token_to_kv_pool=kv_pool,
    )
    driver().begin_runner(runner)
    return runner


def sizes_of_runner(config: Any, args: Any, context_len: int) -> dict[str, Any]:
    """What a ModelRunner has of its model's and its server's sizes, by name. config: as a Gemma4TextConfig."""
    import torch

    return {
        **_PLAIN,
        "model_config": _model_config(config, context_len),
        "server_args": args,
        "dtype": torch.float32,
        "kv_cache_dtype": torch.float32,
        "page_size": args.page_size,
        **driver().runner_fields(args),
    }


_PLAIN = {
    "device": "cpu",
    "gpu_id": 0,
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
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        dtype=torch.float32,
        is_multimodal=False,
        is_encoder_decoder=False,
        hf_config=SimpleNamespace(architectures=["Gemma4ForCausalLM"]),
        hf_text_config=config,
        **driver().model_config(config),
    )
