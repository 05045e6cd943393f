"""FlashInfer's CuTe DSL MLA kernels: CuteDslMLABackend, which is TensorRT-LLM's MLA backend with another kernel behind
the same call, and a decode of its own where a sequence is split between ranks (DCP). In releases from 0.5.17 on.

Judged: the bound alone (`mla_pages`); of a rank, its own pages and lengths.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.stack.backends import flashinfer_mla, trtllm_mla
from g4diag.stack.releases.contract import Point

_BACKEND = "sglang.srt.layers.attention.cutedsl_mla_backend.CuteDslMLABackend"

ATTENTION = replace(
    trtllm_mla.ATTENTION,
    name="cutedsl_mla",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    forwards=(Point(f"{_BACKEND}.forward_decode", flashinfer_mla.FORWARD), *trtllm_mla.ATTENTION.forwards),
)
