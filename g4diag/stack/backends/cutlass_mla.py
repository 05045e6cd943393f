"""CUTLASS's MLA decode: CutlassMLABackend. There is one pool of compressed K/V and no window. In releases up to 0.5.19.

A decode hands the kernel a table of pages of 128 and lengths. Every other forward goes the way of FlashInfer's MLA
backend, which it inherits from. Its module imports the kernel where it finds CUDA alone.

Judged: the bound alone (`mla_pages`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from g4diag.stack.backends import flashinfer_mla, mla_pages
from g4diag.stack.backends.contract import Handed
from g4diag.stack.releases.contract import Point

_MODULE = "sglang.srt.layers.attention.cutlass_mla_backend"
_BACKEND = f"{_MODULE}.CutlassMLABackend"
_KERNEL = Point(f"{_MODULE}.cutlass_mla_decode", ("q_nope", "q_pe", "kv_c_and_k_pe_cache", "seq_lens", "page_table"))


def _handed(backend: Any, layer: Any, forward_batch: Any, table: Any) -> Handed | None:
    return mla_pages.handed(backend, layer, forward_batch, table, mla_pages.in_graph_buffer(backend))


def _has_kernel(module: Any) -> bool:
    return bool(getattr(module, "_is_cuda", True)) or hasattr(module, "cutlass_mla_decode")


ATTENTION = replace(
    flashinfer_mla.ATTENTION,
    name="cutlass_mla",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(mla_pages.call(_KERNEL, "page_table", "seq_lens"), flashinfer_mla.CALL),
    forwards=(
        Point(f"{_BACKEND}.forward_decode", flashinfer_mla.FORWARD),
        *flashinfer_mla.ATTENTION.forwards,
    ),
    handed=_handed,
    metadata_is_graph=mla_pages.in_graph_buffer,
    can_run=_has_kernel,
)
