"""sglang 0.5.17: hooked as 0.5.18, but `free_swa` is never put off. Source: the released wheel, and runs on a CPU."""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_13, sglang_0_5_18

_SRT = "sglang.srt"
_NEXT = sglang_0_5_18.RELEASE
_AS_BEFORE = ("swa.free_group_begin", "swa.free_group_end")

RELEASE = replace(
    _NEXT,
    name="0.5.17",
    versions=">=0.5.17,<0.5.18",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "class ReqKvInfo:"),
        Anchor(f"{_SRT}.mem_cache.allocator.paged", "def _release_page_ids("),
        Anchor(f"{_SRT}.mem_cache.allocator.paged", "self.free_group.append(free_index)"),
    ),
    points={**_NEXT.points, **{name: sglang_0_5_13.RELEASE.points[name] for name in _AS_BEFORE}},
    read=replace(_NEXT.read, is_swa_deferred=sglang_0_5_13.RELEASE.read.is_swa_deferred),
    drive="g4diag.stack.drive.at_0_5_17",
)
