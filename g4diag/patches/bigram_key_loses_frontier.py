"""Under EAGLE the radix insert loses the eviction frontier, which is in tokens, against a key that is in bigrams.

Threads: sglang #34823 (2026-08-14, merged) and its root cure #34870; read in a stored copy. In the unified radix cache
`swa_evicted_seqlen - prefix_len` took a length in tokens and one in bigrams, came out negative, and a new leaf was
neither tombstoned nor split, though its SWA slots had gone back to the allocator.
What breaks: the cache counts slots as evictable that are free (`pool memory leak detected` in the thread); a request
that shares the evicted part of the prefix reads the dummy page in its window.
Put back: the nearest equivalent. 0.5.13 serves Gemma-4 from `SWARadixCache`, which subtracts lengths of one kind; the
outcome is put there: for a bigram key the frontier is 0, so no tombstone is made. The same in the unified cache of
0.5.21 and later, where its SWA component says what is evicted; run with the Rust tree core, the default, in 0.5.23.
Named by `page_in_window_is_mapped`, when the prefix is used. It takes a radix cache with `is_eagle` and two requests:
decode until a page past the prompt is evicted, finish, admit a prompt that ends inside the evicted part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_INSERT = "sglang.srt.mem_cache.swa_radix_cache.SWARadixCache._insert_helper"
_PREPARE = "sglang.srt.mem_cache.unified_cache.components.swa.SWAComponent.prepare_for_caching_req"
_BETWEEN = "!=0.5.16.*,!=0.5.17.*,!=0.5.18.*,!=0.5.19.*,!=0.5.20.*"  # another text, which nobody has tried


def without_frontier(
    original: Callable[..., int],
    cache: Any,
    node: Any,
    key: Any,
    value: Any,
    update_kv_after_len: int,
    swa_evicted_seqlen: int = 0,
) -> int:
    """Insert a bigram key as if nothing of it were evicted. Bigrams that were there already."""
    frontier = 0 if key.is_bigram else swa_evicted_seqlen
    return original(cache, node, key, value, update_kv_after_len, frontier)


def frontier_forgotten(
    original: Callable[..., Any], component: Any, req: Any, insert_params: Any, token_ids_len: int, is_finished: bool
) -> Any:
    """Prepare an insert into the unified cache as if nothing of a bigram key were evicted."""
    limit = original(component, req, insert_params, token_ids_len, is_finished)
    if component.tree_core.is_eagle:
        insert_params.set_evicted_seqlen(component.component_type, 0)
    return limit


PATCH = Patch(
    name="bigram-key-loses-frontier",
    kind="fault",
    why="Under EAGLE a radix node claims SWA K/V that was evicted; the next request with that prefix reads the dummy.",
    how="Around SWARadixCache._insert_helper, or what the unified cache asks: a bigram key's frontier is taken as 0.",
    upstream="sgl-project/sglang#34823 (gated, 2026-08-14), #34870 (cured); nearest equivalent",
    releases=f">=0.5.13,{_BETWEEN}",
    forms=(
        Form(
            ">=0.5.21",
            (Anchor(_PREPARE, "self.component_type, req.kv.get_evicted_seqlen(self.component_type)"),),
            lambda: (Hook(_PREPARE, "around", frontier_forgotten),),
        ),
        Form(
            ">=0.5.13,<0.5.16",
            (
                Anchor(_INSERT, "swa_tombstone_len = swa_evicted_seqlen - total_prefix_length"),
                Anchor(
                    "sglang.srt.mem_cache.swa_radix_cache.SWARadixCache.insert",
                    "key, value = key.maybe_to_bigram_view(self.is_eagle, value)",
                ),
            ),
            lambda: (Hook(_INSERT, "around", without_frontier),),
        ),
    ),
    remove_when="Never: it is an exhibit. Move the anchors when the insert moves.",
)
