"""sglang 0.5.15 and 0.5.15.post1: hooked as 0.5.16. A request has a range to prefill and still holds its lengths
itself; Gemma-4 is served by the prefix cache of 0.5.13. Source: the released wheels, and runs on a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_13, sglang_0_5_16

_SRT = "sglang.srt"
_TREE = "tree.match"

RELEASE = replace(
    sglang_0_5_16.RELEASE,
    name="0.5.15",
    versions=">=0.5.15,<0.5.16",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "self.extend_range: Optional[Range] = None"),
        Anchor(f"{_SRT}.mem_cache.registry", "return SWARadixCache(params=params)"),
        Anchor(f"{_SRT}.mem_cache.allocator.base", "def backup_state("),
    ),
    points={**sglang_0_5_16.RELEASE.points, _TREE: sglang_0_5_13.RELEASE.points[_TREE]},
    drive="g4diag.stack.drive.at_0_5_15",
)
