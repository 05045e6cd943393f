"""One reference in the place of each compiled MLA kernel, and of what else the MLA backends want of CUDA.

Signatures are the real ones where their package can be read here; tokenspeed_mla's is a few names, since that package
is not installed. B: rows. P: pages a row. Q: queries. N: slots. H: heads. D: rank and rope dimension together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from g4diag.hooks.anchors import has_module
from g4diag.stack.drive.reference_kernel import bound

RANK = 8
_BACKENDS = "sglang.srt.layers.attention"
CLASSES = {
    "flashinfer_mla": (f"{_BACKENDS}.flashinfer_mla_backend", "FlashInferMLAAttnBackend"),
    "trtllm_mla": (f"{_BACKENDS}.trtllm_mla_backend", "TRTLLMMLABackend"),
    "cutedsl_mla": (f"{_BACKENDS}.cutedsl_mla_backend", "CuteDslMLABackend"),
    "tokenspeed_mla": (f"{_BACKENDS}.tokenspeed_mla_backend", "TokenspeedMLABackend"),
    "flashmla": (f"{_BACKENDS}.flashmla_backend", "FlashMLABackend"),
    "cutlass_mla": (f"{_BACKENDS}.cutlass_mla_backend", "CutlassMLABackend"),
    "triton": (f"{_BACKENDS}.triton_backend", "TritonAttnBackend"),
}
_FLASH_MLA = "sglang.kernels.ops.attention.flash_mla_interface"  # from 0.5.23 on; sgl_kernel's before


def here() -> tuple[str, ...]:
    """Those that the installed release has."""
    return tuple(name for name, (module, _) in CLASSES.items() if has_module(module))


@dataclass
class Kernels:
    """entries: that a reference was handed. outside: of them, past the pool."""

    entries: int = 0
    outside: int = 0

    def attend(self, q_QHD: Any, kv_ND: Any, slots_N: Any, scale: float) -> Any:
        """Each query over all keys. kv_ND: the pool by slot. Returns [Q, H, rank]."""
        import torch

        inside_N = (slots_N >= 0) & (slots_N < len(kv_ND))
        self.entries += len(slots_N)
        self.outside += int((~inside_N).sum())
        keys_ND = kv_ND[slots_N.clamp(0, len(kv_ND) - 1).long()].float()
        weights = torch.softmax(torch.einsum("qhd,nd->qhn", q_QHD.float(), keys_ND) * scale, dim=-1)
        return torch.einsum("qhn,nr->qhr", weights, keys_ND[:, :RANK]).to(q_QHD.dtype)

    def paged(self, query: Any, kv_cache: Any, block_tables: Any, seq_lens: Any, bmm1_scale: Any, **rest: Any) -> Any:
        """In the place of trtllm's. query: [B, Q, H, D]. kv_cache: [pages, 1, page size, D]."""
        import torch

        size = kv_cache.shape[-2]
        kv_ND = kv_cache.reshape(-1, kv_cache.shape[-1])
        rows = []
        for q_QHD, table_P, length in zip(query, block_tables, seq_lens.tolist(), strict=True):
            slots_N = (table_P[:, None].long() * size + torch.arange(size)).flatten()[:length]
            rows.append(self.attend(q_QHD, kv_ND, slots_N, float(bmm1_scale)))
        return torch.stack(rows)

    def tokenspeed(self, softmax_scale: float, **given: Any) -> Any:
        """In the place of tokenspeed_mla's, which takes what trtllm's does."""
        return self.paged(bmm1_scale=softmax_scale, **given)

    def flash_mla(
        self, q: Any, k_cache: Any, block_table: Any, cache_seqlens: Any, softmax_scale: float, **rest: Any
    ) -> tuple[Any, None]:
        """In the place of FlashMLA's. q: [B, Q, H, D]. k_cache: [pages, page size, 1, D]."""
        return self.paged(q, k_cache.transpose(1, 2), block_table, cache_seqlens, softmax_scale), None

    def cutlass(
        self,
        q_nope: Any,
        q_pe: Any,
        kv_c_and_k_pe_cache: Any,
        seq_lens: Any,
        page_table: Any,
        sm_scale: float,
        **rest: Any,
    ) -> Any:
        """In the place of CUTLASS's. q: [B, H, ...]. kv: [pages, page size, D]."""
        import torch

        q = torch.cat([q_nope, q_pe], -1)[:, None]
        return self.paged(q, kv_c_and_k_pe_cache[:, None], page_table, seq_lens, sm_scale)

    def run(self, wrapper: Any, q_nope: Any, q_pe: Any, ckv_cache: Any, kpe_cache: Any, out: Any, **rest: Any) -> Any:
        """In the place of FlashInfer's, of a wrapper. q: [Q, H, ...]. caches: [slots, 1, ...]."""
        import torch

        q_QHD, kv_ND = torch.cat([q_nope, q_pe], -1), torch.cat([ckv_cache, kpe_cache], -1)[:, 0]
        queries, keys = wrapper.indptrs
        out.copy_(self.flat(q_QHD, kv_ND, queries, keys, wrapper._kv_indices_buf, wrapper._sm_scale))
        return out

    def flat(self, q_QHD: Any, kv_ND: Any, qo_indptr: Any, kv_indptr: Any, slots_N: Any, scale: float) -> Any:
        """The queries of each row over its flat slots. Returns [Q, H, rank]."""
        import torch

        queries, keys = (pairwise(each.tolist()) for each in (qo_indptr, kv_indptr))
        return torch.cat(
            [
                self.attend(q_QHD[q:q_end], kv_ND, slots_N[k:k_end], scale)
                for (q, q_end), (k, k_end) in zip(queries, keys, strict=True)
            ]
        )

    def decode(
        self, q: Any, k_buffer: Any, o: Any, kv_indptr: Any, kv_indices: Any, sm_scale: Any = None, **rest: Any
    ) -> None:
        """In the place of triton's. q: [B, H, D]. k_buffer: [slots, 1, D]."""
        import torch

        scale = sm_scale if sm_scale is not None else rest["sm_scale_withk"]
        each = torch.arange(len(q) + 1)
        o.copy_(self.flat(q, k_buffer[:, 0], each, kv_indptr[: len(q) + 1], kv_indices, scale).view_as(o))

    def extend(
        self,
        q_extend: Any,
        o_extend: Any,
        k_buffer: Any,
        qo_indptr: Any,
        kv_indptr: Any,
        kv_indices: Any,
        sm_scale: float,
        **rest: Any,
    ) -> None:
        """In the place of triton's, over what was there before: new keys, which come beside it, are left out."""
        o_extend.copy_(self.flat(q_extend, k_buffer[:, 0], qo_indptr, kv_indptr, kv_indices, sm_scale))


@contextmanager
def standing_in(kernels: Kernels) -> Iterator[None]:
    """For the body: FlashInfer's wrapper but for its names, every kernel, and "cuda" as a device."""
    import flashinfer
    import torch
    from flashinfer.mla import BatchMLAPagedAttentionWrapper as Wrapper

    from g4diag.stack.drive.backends import cuda_is_cpu

    with ExitStack() as undo:
        undo.enter_context(_importable())
        modules = {name: import_module(CLASSES[name][0]) for name in here()}
        for method, ours in (("__init__", _made), ("plan", _planned), ("run", kernels.run)):
            undo.enter_context(patch.object(Wrapper, method, bound(getattr(Wrapper, method), _method(ours))))
        decode = flashinfer.decode.trtllm_batch_decode_with_kv_cache_mla
        properties = SimpleNamespace(multi_processor_count=4)
        replaced = [
            (modules["flashinfer_mla"], "BatchMLAPagedAttentionWrapper", Wrapper),
            (modules["flashinfer_mla"], "BatchPrefillWithRaggedKVCacheWrapper", _nothing),
            (flashinfer.decode, "trtllm_batch_decode_with_kv_cache_mla", bound(decode, kernels.paged)),
            (torch.cuda, "get_device_properties", lambda device: properties),
            *_of_modules(modules, kernels),
        ]
        for holder, name, value in replaced:
            undo.enter_context(patch.object(holder, name, value, create=True))
        undo.enter_context(cuda_is_cpu())
        yield


def _of_modules(modules: dict[str, Any], kernels: Kernels) -> list[tuple[Any, str, Any]]:
    """What modules of backends have by name: (module, name, ours)."""
    import flashinfer

    found: list[tuple[Any, str, Any]] = []
    for name in ("flashinfer_mla", "trtllm_mla", "cutedsl_mla"):
        if name in modules:
            found += [(modules[name], "flashinfer", flashinfer), (modules[name], "_jit_fixup_module", _nothing)]
            found.append((modules[name], "_multi_ctas_kv_counter_bytes", lambda *args: 8))
    flash = modules["flashmla"]
    found += [
        (flash, "flash_mla_with_kvcache", bound(flash.flash_mla_with_kvcache, kernels.flash_mla)),
        (flash, "get_mla_metadata", _schedule),
    ]
    if (cutlass := modules.get("cutlass_mla")) is not None:
        real = import_module("sgl_kernel.attention")
        found += [
            (cutlass, "cutlass_mla_decode", bound(real.cutlass_mla_decode, kernels.cutlass)),
            (cutlass, "cutlass_mla_get_workspace_size", lambda *args, **kwargs: 8),
        ]
    if (tokenspeed := modules.get("tokenspeed_mla")) is not None:
        package = import_module("tokenspeed_mla")
        found += [
            (package, "tokenspeed_mla_decode", bound(_tokenspeed_mla_decode, kernels.tokenspeed)),
            (tokenspeed, "tokenspeed_mla", package),
            (tokenspeed, "is_tokenspeed_mla_available", lambda: False),  # asked when its kernels are to be compiled
        ]
    return found


def _tokenspeed_mla_decode(
    query: Any, kv_cache: Any, *, block_tables: Any, seq_lens: Any, softmax_scale: float, **rest: Any
) -> Any:
    """Never called: the names that sglang calls it by."""


@contextmanager
def _importable() -> Iterator[None]:
    """For the body, packages of kernels that want libcuda, or are not there: what is Python of them can be imported."""
    from g4diag.stack.drive import cpu, sgl_kernel_stand_in
    from g4diag.stack.drive.backends import forget

    cpu.prepare_environment()
    before = set(sys.modules)
    with TemporaryDirectory() as folder:
        (Path(folder) / "__init__.py").touch()
        if not sgl_kernel_stand_in.is_needed():
            real = PathFinder.find_spec("sgl_kernel")
            _package("sgl_kernel", real.submodule_search_locations or () if real else ())
        if has_module(_FLASH_MLA):
            _package("flash_mla", (), fused_norm_rope_attn_rope_cast=None)
            _package("flash_mla.flash_mla_interface", (), FlashMLASchedMeta=object)
        _package("tokenspeed_mla", (folder,))
        try:
            yield
        finally:
            made = {"sgl_kernel", "flash_mla", "tokenspeed_mla"} - before
            took = {_FLASH_MLA, CLASSES["flashmla"][0]} - before
            for name in [name for name in sys.modules if name.split(".")[0] in made or name in took]:
                forget(name)


def _package(name: str, folders: Sequence[str], **names: Any) -> None:
    """Without its own code, unless it is imported already. folders: where its modules are."""
    if name in sys.modules:
        return
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__spec__.submodule_search_locations = module.__path__ = list(folders)
    vars(module).update(names)
    sys.modules[name] = module


def _schedule(lengths_B: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """In the place of FlashMLA's plan, which only its kernel reads."""
    import torch

    return torch.zeros(1, 8, dtype=torch.int32), torch.zeros(len(lengths_B) + 1, dtype=torch.int32)


def _method(function: Any) -> Any:
    return lambda self, **given: function(self, **given)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _made(wrapper: Any, use_cuda_graph: bool, kv_indices: Any, kv_indptr: Any, **rest: Any) -> None:
    wrapper._use_cuda_graph = use_cuda_graph
    for name, buffer in {"kv_indices": kv_indices, "kv_indptr": kv_indptr, **rest}.items():
        setattr(wrapper, f"_{name}_buf", buffer)

    def planned(*args: Any) -> None:  # sglang's own plan of a replay: workspaces, then host arrays
        wrapper.indptrs = args[3:5]

    wrapper._cached_module = SimpleNamespace(plan=planned)
    wrapper._float_workspace_buffer = wrapper._int_workspace_buffer = wrapper._pin_memory_int_workspace_buffer = None


def _planned(wrapper: Any, qo_indptr: Any, kv_indptr: Any, kv_indices: Any, sm_scale: float, **rest: Any) -> None:
    wrapper._sm_scale, wrapper.indptrs = sm_scale, (qo_indptr.clone(), kv_indptr.clone())
    if not wrapper._use_cuda_graph:
        wrapper._kv_indptr_buf, wrapper._kv_indices_buf = kv_indptr, kv_indices
        return
    wrapper._kv_indptr_buf.copy_(kv_indptr)
    wrapper._kv_indices_buf[: len(kv_indices)].copy_(kv_indices)
