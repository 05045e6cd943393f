"""tokenspeed-mla's CuTe DSL kernels: TokenspeedMLABackend, which is TensorRT-LLM's MLA backend with a kernel of another
package, for FP8 on Blackwell. In releases up to 0.5.22.

Judged: the bound alone (`mla_pages`).
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.stack.backends import flashinfer_mla, mla_pages, trtllm_mla
from g4diag.stack.releases.contract import Point

_BACKEND = "sglang.srt.layers.attention.tokenspeed_mla_backend.TokenspeedMLABackend"
_DECODE = Point("tokenspeed_mla.tokenspeed_mla_decode", ("query", "kv_cache"))

ATTENTION = replace(
    trtllm_mla.ATTENTION,
    name="tokenspeed_mla",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(mla_pages.call(_DECODE, "block_tables", "seq_lens"), flashinfer_mla.CALL),
)
