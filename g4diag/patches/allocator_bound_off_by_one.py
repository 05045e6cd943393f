"""An allocator's free list begins with one page more than its pool has.

No thread: the classic, and the mistake that the allocator trap of the fork pyc96/sglang made the other way round. Page
0 is the dummy, so a pool of n pages has ids 1 .. n; whoever counts from 0 and from 1 at once hands out n + 1.
What breaks: only a full pool gets there. K/V is written past the buffer, or, in the full pool of a hybrid allocator,
over the mapping's last entry, which must stay -1.
Put back: around `clear` of the paged and the unpaged allocator, which begins every free list, one id is added.
Named by `slot_inside_allocator`, when the last page is handed out; `free_list_is_free` if stock is taken before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Patch

_PAGED = "sglang.srt.mem_cache.allocator.paged.PagedTokenToKVPoolAllocator.clear"
_TOKEN = "sglang.srt.mem_cache.allocator.token.TokenToKVPoolAllocator.clear"


def one_more(original: Callable[..., None], allocator: Any) -> None:
    """Begin anew with the ids 1 .. n + 1."""
    import torch

    original(allocator)
    allocator.free_pages = torch.cat([allocator.free_pages, allocator.free_pages[-1:] + 1])


PATCH = Patch(
    name="allocator-bound-off-by-one",
    kind="fault",
    why="A full pool hands out a page past its end: K/V is written over what lies behind the buffer.",
    how="Around clear of PagedTokenToKVPoolAllocator and TokenToKVPoolAllocator: one id more on the free list.",
    upstream="none; the bound that the fork's allocator trap had wrong",
    releases=">=0.5.13",
    anchors=(
        Anchor(_PAGED, "1, self.num_pages + 1, dtype=torch.int64"),
        Anchor(_TOKEN, "1, self.size + 1, dtype=torch.int64"),
    ),
    hooks=lambda: tuple(Hook(target, "around", one_more) for target in (_PAGED, _TOKEN)),
    remove_when="Never: it is an exhibit. Move the anchors when the free lists move.",
)
