"""sglang 0.5.16: allocators are those of 0.5.13, which speculation may back up and put back; a pool's write and the
frozen-KV draft are those of 0.5.17. Source: the released wheel, and runs on a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from g4diag.hooks.anchors import Anchor
from g4diag.stack.releases import sglang_0_5_13, sglang_0_5_17

_SRT = "sglang.srt"
_OLD, _NEXT = sglang_0_5_13.RELEASE, sglang_0_5_17.RELEASE
_OF_ALLOCATORS = ("paged.", "token.", "allocator.", "swa.")


def _of_allocators(name: str) -> bool:
    return name.startswith(_OF_ALLOCATORS)


RELEASE = replace(
    _NEXT,
    name="0.5.16",
    versions=">=0.5.16,<0.5.17",
    known_by=(
        Anchor(f"{_SRT}.managers.schedule_batch", "class ReqKvInfo:"),
        Anchor(f"{_SRT}.mem_cache.allocator.base", "def backup_state("),
        Anchor(f"{_SRT}.mem_cache.registry", "from sglang.srt.mem_cache.unified_cache_components import ComponentType"),
    ),
    points={
        **{name: point for name, point in _NEXT.points.items() if not _of_allocators(name)},
        **{name: point for name, point in _OLD.points.items() if _of_allocators(name)},
    },
    lacks={},
    drive="g4diag.stack.drive.at_0_5_16",
)
