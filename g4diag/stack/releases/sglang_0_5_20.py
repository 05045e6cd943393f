"""sglang 0.5.20: as 0.5.23 in every place that is hooked, but a request has a range to prefill, `extend_range`.

Its allocators are the first that stage pages and free the segments of a row. Source: the released wheel, and runs on
a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_21, sglang_0_5_23

_SRT = "sglang.srt"

RELEASE = replace(
    sglang_0_5_23.RELEASE,
    name="0.5.20",
    versions=">=0.5.20,<0.5.21",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "self.extend_range: Optional[Range] = None"),
        Anchor(f"{_SRT}.managers.schedule_batch", "def holds_kv("),
        Anchor(f"{_SRT}.mem_cache.allocator.base", "def get_all_free_pages("),
        Anchor(f"{_SRT}.runtime_context", "def override_permanently(self, **widths)"),
    ),
    points=sglang_0_5_21.RELEASE.points,
    read=sglang_0_5_21.RELEASE.read,
    drive="g4diag.stack.drive.at_0_5_20",
)
