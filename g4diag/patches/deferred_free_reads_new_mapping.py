"""A free_swa inside a free group waits for its end, and looks the mapping up only then.

Thread: sglang #36135 (2026-08-24, closed) for issue #36081, a one-page SWA leak in 0.5.18; cured by #36381 and #36646;
read in a stored copy. A free group collects frees and does them at its end. Where what it collects are full slots, and
a tombstone is recovered in between, which gives those full slots new SWA pages, the end frees the new pages under
their owner, and nobody can reach the old ones any more.
What breaks: a live SWA page is handed out again, another is lost for good: the pool's sum is off by pages.
Put back: 0.5.13 does not defer `free_swa` at all. Around it and around the group's two ends, it is deferred as 0.5.18
did; the recovery is `set_full_to_swa_mapping`, which 0.5.13 has for HiCache. So the fault is as in the thread, in an
allocator that is older. 0.5.13's grouped `free` does look the mapping up at the end (#36646 ended that); by reading,
no caller of 0.5.13 recovers a slot that it has freed in the same group.
From 0.5.19 on `free_swa` looks the mapping up at once and defers the pages; the fault is put back in the same way.
By reading, 0.5.18 has the bug, and the patch nothing to do there.
Named by `mapping_follows_allocation`, when the free is put off: 0.5.13's promise is that it unmaps at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_ALLOCATOR = "sglang.srt.mem_cache.allocator.swa.SWATokenToKVPoolAllocator"
_BASE = "sglang.srt.mem_cache.allocator.base.BaseTokenToKVPoolAllocator"


def hooks(is_grouped: Callable[[Any], bool]) -> tuple[Hook, ...]:
    """The free, and both ends of the group."""
    waiting: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def free_swa(original: Callable[..., None], allocator: Any, free_index: Any) -> None:
        if is_grouped(allocator):
            waiting.setdefault(allocator, []).append(free_index.clone())
        else:
            original(allocator, free_index)

    def begin(original: Callable[..., None], allocator: Any) -> None:
        waiting.pop(allocator, None)
        original(allocator)

    def end(original: Callable[..., None], allocator: Any) -> None:
        import torch

        original(allocator)
        if deferred := waiting.pop(allocator, []):
            allocator.free_swa(torch.cat(deferred))

    around: dict[str, Callable[..., None]] = {"free_swa": free_swa}
    around |= {"free_group_begin": begin, "free_group_end": end}
    return tuple(Hook(f"{_ALLOCATOR}.{name}", "around", function) for name, function in around.items())


PATCH = Patch(
    name="deferred-free-reads-new-mapping",
    kind="fault",
    why="The end of a free group frees SWA pages that were mapped since, under their owner, and loses the old ones.",
    how="Around SWATokenToKVPoolAllocator.free_swa and the free group's ends: it is deferred, by full slot.",
    upstream="sgl-project/sglang#36135 (in 0.5.18; cured by #36381, #36646)",
    releases=">=0.5.13,!=0.5.18",
    forms=(
        Form(
            ">=0.5.19",
            (
                Anchor(f"{_ALLOCATOR}.free_swa", "self.swa_free_group.append(swa_indices)"),
                Anchor(f"{_ALLOCATOR}.free_group_end", "swa_free_group = self.swa_free_group"),
            ),
            lambda: hooks(lambda allocator: allocator.free_group is not None),
        ),
        *(
            Form(
                releases,
                (
                    Anchor(f"{_ALLOCATOR}.free_swa", f"swa_indices = self.full_to_swa_index_mapping[{looked_up}]"),
                    Anchor(f"{_BASE}.free_group_end", "self.free(torch.cat(self.free_group))"),
                ),
                lambda: hooks(lambda allocator: not allocator.is_not_in_free_group),
            )
            for releases, looked_up in {
                ">=0.5.14,<0.5.18": "mapping_indices",
                ">=0.5.13,<0.5.14": "free_index",
            }.items()
        ),
    ),
    remove_when="Never: it is an exhibit. Move the anchors when the allocator moves.",
)
