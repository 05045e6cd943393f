"""sglang 0.5.18: hooked as 0.5.19, but a request keeps its row itself and a free group is told of by a flag.

In a free group `free_swa` too is put off to the group's end, mapping and all: in this release alone. Source: the
released wheel, and runs on a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_13, sglang_0_5_19

_SRT = "sglang.srt"
_NEXT, _OLD = sglang_0_5_19.RELEASE, sglang_0_5_13.RELEASE.read
_LATER = "swa.clear_full_to_swa_mapping"

RELEASE = replace(
    _NEXT,
    name="0.5.18",
    versions=">=0.5.18,<0.5.19",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "class ReqKvInfo:"),
        Anchor(f"{_SRT}.managers.schedule_batch", "self.req_pool_idx: Optional[int] = None"),
        Anchor(f"{_SRT}.mem_cache.allocator.swa", "self.swa_free_group.append(self._copy_for_free_group(free_index))"),
    ),
    points={name: point for name, point in _NEXT.points.items() if name != _LATER},
    lacks={**_NEXT.lacks, _LATER: "the mapping is cleared in place before 0.5.19"},
    read=replace(
        _NEXT.read,
        request_row=_OLD.request_row,
        is_deferred=_OLD.is_deferred,
        is_swa_deferred=_OLD.is_deferred,
    ),
    drive="g4diag.stack.drive.at_0_5_18",
)
