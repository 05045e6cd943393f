"""A tail-only SWA allocation leaves the mapping of the slots before the tail as it found it.

Thread: sglang #25805 (2026-05-19, merged), a double free in disaggregated decode with MTP; read in a stored copy.
`alloc_extend_swa_tail` hands out full pages for a whole prompt and SWA pages for its last tokens only. Full pages are
recycled, and a free clears the mapping of the slots it is given, so further slots of a freed page may still map to the
SWA page they once had (#27779, alive in 0.5.13). Where the call does not set the slots before the tail to 0, those of
a new request map to an SWA page that another has by then.
What breaks: evicting or finishing the new request gives that page back under its owner, then gives it back again.
Put back: around the call, the mapping of the slots before the tail is what it was. That is the removed line as it was;
a tail of 0 tokens returns before it, in 0.5.13 too. Later releases say the same in other words. Since 0.5.14 a free
forgets whole pages, and leaves nothing behind that could go stale; a scenario has to put that there too.
Named by `mapping_follows_allocation`, at the allocation; `free_of_live_only` at the second free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_CALL = "sglang.srt.mem_cache.allocator.swa.SWATokenToKVPoolAllocator.alloc_extend_swa_tail"


def keeping(
    original: Callable[..., Any],
    allocator: Any,
    prefix_lens: Any,
    prefix_lens_cpu: Any,
    seq_lens: Any,
    seq_lens_cpu: Any,
    last_loc: Any,
    extend_num_tokens: int,
    swa_tail_len: int,
) -> Any:
    """int64[extend_num_tokens]: the call's full slots, those before the tail mapped as they were before."""
    lens = (prefix_lens, prefix_lens_cpu, seq_lens, seq_lens_cpu)
    before = allocator.full_to_swa_index_mapping.clone()
    slots = original(allocator, *lens, last_loc, extend_num_tokens, swa_tail_len)
    if slots is not None:
        head = slots[: extend_num_tokens - swa_tail_len]
        allocator.full_to_swa_index_mapping[head] = before[head]
    return slots


PATCH = Patch(
    name="tail-alloc-keeps-stale-mapping",
    kind="fault",
    why="Slots before the tail of a disaggregated prefill map to another request's SWA page, which is freed with them.",
    how="Around SWATokenToKVPoolAllocator.alloc_extend_swa_tail: the mapping before the tail is not cleared.",
    upstream="sgl-project/sglang#25805 (opened 2026-05-19, merged)",
    releases=">=0.5.13",
    forms=tuple(
        Form(releases, (Anchor(_CALL, cleared),), lambda: (Hook(_CALL, "around", keeping),))
        for releases, cleared in {
            ">=0.5.19": "self.clear_full_to_swa_mapping(alloc_full_indices[:-swa_tail_len])",
            ">=0.5.14,<0.5.19": "alloc_full_indices[:-swa_tail_len].to(torch.int64)",
            ">=0.5.13,<0.5.14": "self.full_to_swa_index_mapping[alloc_full_indices[:-swa_tail_len]] = 0",
        }.items()
    ),
    remove_when="Never: it is an exhibit. Move the anchor when the call moves.",
)
