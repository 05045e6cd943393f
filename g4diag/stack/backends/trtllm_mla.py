"""TensorRT-LLM's MLA kernel through FlashInfer: TRTLLMMLABackend. There is one pool of compressed K/V and no window.

Decode, verify and draft extend hand the kernel a table of pages and lengths, -1 past a row's end; a row's end may be
that of the widest row, whose queries the others lack. Other prefills go the way of FlashInfer's MLA backend, which it
inherits from.

Judged: the bound alone (`mla_pages`). Later releases write K/V themselves, in the launch that makes a decode's query.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.stack.backends import flashinfer_mla, mla_pages
from g4diag.stack.backends.contract import Handed, Write
from g4diag.stack.releases.contract import Point

_MODULE = "sglang.srt.layers.attention.trtllm_mla_backend"
_BACKEND = f"{_MODULE}.TRTLLMMLABackend"
_DECODE = Point("flashinfer.decode.trtllm_batch_decode_with_kv_cache_mla", ("query", "kv_cache"))


def _fused(name: str) -> Write:
    return Write(
        Point(f"{_MODULE}.{name}", ("kv_buffer", "loc", "cache_k_nope", "cache_k_rope")),
        Anchor(_BACKEND, f"return {name}("),
        lambda *args, loc=None, **kwargs: args[1] if loc is None else loc,
    )


def _handed(backend: Any, layer: Any, forward_batch: Any, table: Any) -> Handed | None:
    return mla_pages.handed(backend, layer, forward_batch, table, _is_graph(backend))


def _is_graph(backend: Any) -> bool:
    return any(backend.forward_decode_metadata is known for known in backend.decode_cuda_graph_metadata.values())


ATTENTION = replace(
    flashinfer_mla.ATTENTION,
    name="trtllm_mla",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(mla_pages.call(_DECODE, "block_tables", "seq_lens"), flashinfer_mla.CALL),
    forwards=tuple(
        Point(f"{_BACKEND}.{name}", flashinfer_mla.FORWARD) for name in ("forward_decode", "forward_extend")
    ),
    handed=_handed,
    metadata_is_graph=_is_graph,
    writes=(_fused("set_mla_kv_concat_q"), _fused("set_mla_kv_concat_q_fp8")),
    metadata=lambda backend: backend.forward_decode_metadata or backend.forward_metadata,
)
