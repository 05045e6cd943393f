"""What the scenarios of attention backends share: batches made by hand, and sizes by sglang's own code. No scenario."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from g4diag.stack.drive import cpu
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.serving import Geometry, Serving

if TYPE_CHECKING:
    import torch

PAGE = 16
SMALL = Geometry(full_tokens=2048, ratio=0.5, page_size=PAGE, window=32, chunk=0, prompt=116, requests=1)


class _Unpaged(Geometry):
    """Pages of one token, which trtllm_mha has not."""

    def check(self) -> None:
        pass


class HandMadeBatch(SimpleNamespace):
    """A forward batch made by hand. A class of its own, since 0.5.19 to 0.5.21 refer to batches weakly."""


class _WithoutBackend(Serving):
    def _backend(self) -> None:
        return None


def unpaged_server() -> Serving:
    """128 full and 64 SWA slots in pages of one, window 8; the scenario builds the backend."""
    sizes = _Unpaged(full_tokens=128, ratio=0.5, page_size=1, window=8, chunk=0, prompt=40, live=2, requests=1)
    return bare_server(sizes)


def bare_server(sizes: Geometry) -> Serving:
    """An EAGLE target's pools, rows and runner; the backend is built by whoever asks."""
    return _WithoutBackend(sizes, 0, algorithm="EAGLE")


def extend_batch(serving: Serving, runner: Any, row: int, slots: torch.Tensor) -> Any:
    """A prefill of one request of `len(slots)` tokens, none cached, by this runner. slots: int64 full slots, put in row
    `row`."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    serving.request_pool.req_to_token[row, : len(slots)] = slots.to(torch.int32)
    lens = torch.tensor([len(slots)])
    batch = HandMadeBatch(
        batch_size=1,
        req_pool_indices=torch.tensor([row]),
        seq_lens=lens,
        seq_lens_cpu=lens,
        extend_seq_lens=lens,
        extend_seq_lens_cpu=[len(slots)],
        extend_prefix_lens_cpu=[0],
        encoder_lens=None,
        forward_mode=ForwardMode.EXTEND,
        spec_info=None,
        out_cache_loc=slots,
        _attn_output=None,
    )
    driver().bind_plan(runner, batch)
    return batch


def verify_batch(serving: Serving, *committed: int) -> Any:
    """A target verify of requests with so many tokens each, their slots and their draft tokens' just allocated. Rows of
    req_to_token are as wide as upstream makes them."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    from g4diag.stack.drive.allocators import extend

    drafted = serving.args.speculative_num_draft_tokens
    width = serving.geometry.context + driver().row_headroom(serving.args)
    rows = list(range(1, len(committed) + 1))
    serving.request_pool.req_to_token = torch.zeros(len(rows) + 1, width, dtype=torch.int32)
    written = []
    for row, tokens in zip(rows, committed, strict=True):
        slots = extend(serving.allocator, tokens + drafted)
        serving.request_pool.req_to_token[row, : len(slots)] = slots.to(torch.int32)
        written.append(slots[-drafted:])
    lens = torch.tensor(committed)
    batch = HandMadeBatch(
        batch_size=len(rows),
        req_pool_indices=torch.tensor(rows),
        seq_lens=lens,
        seq_lens_cpu=lens,
        encoder_lens=None,
        forward_mode=ForwardMode.TARGET_VERIFY,
        spec_info=None,
        input_ids=torch.zeros(len(rows) * drafted, dtype=torch.int64),
        positions=torch.arange(drafted).repeat(len(rows)),
        out_cache_loc=torch.cat(written),
    )
    driver().bind_plan(serving.runner, batch)
    return batch


def runner_with_pool(serving: Serving, dtype: torch.dtype, *, own_pool: bool) -> Any:
    """A runner of the server's model with K/V of `dtype` in a pool to itself: an SWAKVPool behind the server's mapping,
    or own_pool, that of an EAGLE draft that is full throughout and shares the allocator."""
    from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool
    from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

    config, sizes, kinds = serving.config, serving.geometry, serving.config.layer_types
    shape: Any = {"page_size": sizes.page_size, "dtype": dtype, "head_dim": config.head_dim, "device": "cpu"}
    shape["head_num"] = config.num_key_value_heads
    pool: Any
    if own_pool:
        pool = MHATokenToKVPool(size=sizes.full_tokens, layer_num=len(kinds), enable_memory_saver=False, **shape)
    else:
        pool = SWAKVPool(
            size=sizes.full_tokens,
            size_swa=sizes.swa_tokens,
            swa_attention_layer_ids=[i for i, kind in enumerate(kinds) if kind == "sliding_attention"],
            full_attention_layer_ids=[i for i, kind in enumerate(kinds) if kind == "full_attention"],
            **driver().SWA_POOL_ARGUMENTS,
            **shape,
        )
        pool.register_mapping(serving.allocator.full_to_swa_index_mapping)
    runner = cpu.model_runner(
        serving.model,
        config,
        serving.args,
        request_pool=serving.request_pool,
        allocator=serving.allocator,
        kv_pool=pool,
        context_len=sizes.context,
        is_draft=own_pool,
        algorithm="EAGLE",
    )
    runner.kv_cache_dtype = dtype
    return runner


def give_pools(runner: Any, sizes: Any) -> None:
    """What a draft's runner does with the target's sizes, in its own code; it shares the allocator it has."""
    config = runner.model_config
    runner.__dict__.update(is_hybrid_swa=False, use_mla_backend=False, enable_hisparse=False, token_to_kv_pool=None)
    config.v_head_dim = config.head_dim
    config.hf_config.get_text_config = lambda: config.hf_text_config
    driver().make_own_pool(runner, sizes, layers=2)


def split_sizes(serving: Serving) -> Any:
    """What sglang's configurator makes of the server's sizes, for a target of this model."""
    types = serving.config.layer_types
    config = SimpleNamespace(
        full_attention_layer_ids=[i for i, kind in enumerate(types) if kind == "full_attention"],
        swa_attention_layer_ids=[i for i, kind in enumerate(types) if kind == "sliding_attention"],
        attention_arch=None,
        get_num_kv_heads=lambda tp_size: 1,
        get_swa_num_kv_heads=lambda tp_size: 1,
        **dict.fromkeys(("head_dim", "v_head_dim", "swa_head_dim", "swa_v_head_dim"), 16),
    )
    return driver().split_tokens(serving.runner, config, serving.geometry.full_tokens, serving.geometry.ratio)


def cuda_is_cpu() -> AbstractContextManager[Any]:
    """For the body, code that names the device "cuda" where it makes a buffer gets one on the CPU; and none is pinned,
    which takes a driver."""
    import torch
    from torch.overrides import TorchFunctionMode

    class CudaIsCpu(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if kwargs.get("device") == "cuda":
                kwargs["device"] = "cpu"
            if not torch.cuda.is_available():
                kwargs.pop("pin_memory", None)
            return func(*args, **kwargs)

    return CudaIsCpu()


@contextmanager
def flash_attention_imports() -> Iterator[None]:
    """For the body, sglang's FlashAttentionBackend can be imported and built. Its module wants sgl_kernel, which wants
    libcuda; where that fails, names that its metadata never calls stand in for it."""
    cpu.prepare_environment()  # first, since releases that want sgl_kernel everywhere have a stand-in of their own
    try:
        importlib.import_module("sgl_kernel")
    except ImportError:
        names = {
            "sgl_kernel": ("merge_state_v2",),
            "sgl_kernel.flash_attn": ("flash_attn_varlen_func", "flash_attn_with_kvcache", "get_scheduler_metadata"),
        }
        for module, members in names.items():
            sys.modules[module] = ModuleType(module)
            sys.modules[module].__dict__.update({member: _never_called for member in members}, __path__=[])
        try:
            yield
        finally:
            for module in [*names, *_made_with_stand_ins()]:
                forget(module)
    else:
        yield


def _made_with_stand_ins() -> list[str]:
    """Modules of sglang that took a stand-in by name: one left behind would import for whoever comes next."""
    sglang = [(name, module) for name, module in sys.modules.items() if name.startswith("sglang.")]
    return [name for name, module in sglang if _never_called in vars(module).values()]


def forget(name: str) -> None:
    """As if it had never been imported: the parent package keeps it as an attribute too."""
    del sys.modules[name]
    parent, _, own = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(own, None)


def _never_called(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("a kernel of sgl_kernel was called where it cannot run")
