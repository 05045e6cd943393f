"""sglang 0.5.19: hooked as 0.5.20, but its allocators free no segment of the SWA side, and what is free lies in two
tensors. Source: the released wheel, and runs on a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_20

_SRT = "sglang.srt"
_LATER = ("swa.free_segment", "swa.free_swa_segment")
_MLA = ("pool.mla_write", "pool.mla_write_joined")
_NEXT = sglang_0_5_20.RELEASE

RELEASE = replace(
    _NEXT,
    name="0.5.19",
    versions=">=0.5.19,<0.5.20",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "self.extend_range: Optional[Range] = None"),
        Anchor(f"{_SRT}.managers.schedule_batch", "def holds_kv("),
        Anchor(f"{_SRT}.mem_cache.allocator.swa", "self.full_free_group.append("),
    ),
    points={name: point for name, point in _NEXT.points.items() if name not in _LATER + _MLA},
    lacks={
        **_NEXT.lacks,
        **dict.fromkeys(_LATER, "the SWA side's segments are freed one by one since 0.5.20"),
        **dict.fromkeys(_MLA, "an MLA pool says only since 0.5.20 whether ranks share a row (DCP)"),
    },
    read=replace(_NEXT.read, free_lists=lambda allocator: (allocator.free_pages, allocator.release_pages)),
    drive="g4diag.stack.drive.at_0_5_19",
)
