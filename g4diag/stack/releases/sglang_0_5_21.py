"""sglang 0.5.21: as 0.5.23 in every place that is hooked, but a request has a range to prefill, `extend_range`.

Source: the released wheel, and runs on a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_23

_SRT = "sglang.srt"
_NEXT = sglang_0_5_23.RELEASE
_MLA_WRITE = ("layer", "loc", "cache_k_nope", "cache_k_rope")

RELEASE = replace(
    _NEXT,
    name="0.5.21",
    versions=">=0.5.21,<0.5.22",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "self.extend_range: Optional[Range] = None"),
        Anchor(f"{_SRT}.managers.schedule_batch", "def get_evicted_seqlen("),
        Anchor(f"{_SRT}.mem_cache.common", "def maybe_cache_unfinished_req("),
        Anchor(f"{_SRT}.layers.dp_attention", "def init_dp_gathered_buffer("),
    ),
    points={**_NEXT.points, "pool.mla_write": replace(_NEXT.points["pool.mla_write"], parameters=_MLA_WRITE)},
    read=replace(_NEXT.read, matched=lambda cache, result: result.device_indices),
    drive="g4diag.stack.drive.at_0_5_21",
)
