"""FlashMLA: FlashMLABackend. There is one pool of compressed K/V and no window.

Decode and verify, and from 0.5.23 on draft extend too, hand the kernel a table of pages of 64 and lengths. Outside of
graphs that table may be a buffer that is used again, so past a row's end there are old ids. Other forwards go the way
of FlashInfer's MLA backend, which it inherits from.

Judged: the bound alone (`mla_pages`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from g4diag.stack.backends import flashinfer_mla, mla_pages
from g4diag.stack.backends.contract import Handed
from g4diag.stack.releases.contract import Point

_MODULE = "sglang.srt.layers.attention.flashmla_backend"
_BACKEND = f"{_MODULE}.FlashMLABackend"
# By the name that the module imports it under, from a package that moved.
_KERNEL = Point(f"{_MODULE}.flash_mla_with_kvcache", ("q", "k_cache", "block_table", "cache_seqlens"))


def _handed(backend: Any, layer: Any, forward_batch: Any, table: Any) -> Handed | None:
    return mla_pages.handed(backend, layer, forward_batch, table, mla_pages.in_graph_buffer(backend))


ATTENTION = replace(
    flashinfer_mla.ATTENTION,
    name="flashmla",
    backend=_BACKEND,
    built=Point(f"{_BACKEND}.__init__", ("model_runner",)),
    calls=(mla_pages.call(_KERNEL, "block_table", "cache_seqlens"), flashinfer_mla.CALL),
    forwards=tuple(
        Point(f"{_BACKEND}.{name}", flashinfer_mla.FORWARD) for name in ("forward_decode", "forward_extend")
    ),
    handed=_handed,
    metadata_is_graph=mla_pages.in_graph_buffer,
)
