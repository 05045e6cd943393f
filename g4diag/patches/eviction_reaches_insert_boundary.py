"""With pages larger than the window, eviction reaches the radix insert boundary, and the leaf is inserted as if alive.

Thread: sglang #22470 (2026-04-09, merged); read in a stored copy. `_evict_swa` freed up to page_floor(len - window).
With page size above window that can be page_floor(len): all that a finishing request is about to insert. The insert
had no case for it and made a node that claims SWA K/V which is gone.
What breaks: `swa_evictable_size_` counts slots that are free (a negative use, in the thread); the next request with
that prefix matches the node, and its sliding layers read the dummy page in their window: wrong answers, no fault.
Put back: both halves of the cure are undone. The margin of a page by upstream's own switch,
SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN; the early return of the insert by a frontier past the key's end, which takes no
branch. As it was, but for tombstones inside the key, which the old code treated alike. In 0.5.23 the margin goes with
a parameter, and a frontier at the key's end is taken back in what the SWA component says of the insert.
Named by `page_in_window_is_mapped`, when the prefix is used. No allocator trap sees it: nothing is freed twice. It
takes a radix cache and two requests: decode until the frontier is the boundary, finish, admit the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_EVICT = "sglang.srt.managers.schedule_batch.ScheduleBatch._evict_swa"
_INSERT = "sglang.srt.mem_cache.swa_radix_cache.SWARadixCache._insert_helper"
_FREE = "sglang.srt.mem_cache.common.free_swa_out_of_window_slots"
_PREPARE = "sglang.srt.mem_cache.unified_cache.components.swa.SWAComponent.prepare_for_caching_req"
_BETWEEN = ",".join(f"!=0.5.{minor}.*" for minor in range(14, 23))  # other texts, which nobody has tried


def without_margin(original: Callable[..., None], batch: Any, req: Any, pre_len: int) -> None:
    """Evict up to the window itself, rounded down to a page."""
    from sglang.srt.environ import envs

    with envs.SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN.override(True):
        original(batch, req, pre_len)


def as_if_alive(
    original: Callable[..., int],
    cache: Any,
    node: Any,
    key: Any,
    value: Any,
    update_kv_after_len: int,
    swa_evicted_seqlen: int = 0,
) -> int:
    """Insert a key of which all is evicted without noticing. Tokens that were there already."""
    if swa_evicted_seqlen and swa_evicted_seqlen == len(key):
        swa_evicted_seqlen += cache.page_size
    return original(cache, node, key, value, update_kv_after_len, swa_evicted_seqlen)


def to_the_window(original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """The same where the margin is a parameter's: as for a cache that shares no prefixes."""
    original(*args, **kwargs | {"supports_prefix_sharing": False})


def boundary_forgotten(
    original: Callable[..., Any], component: Any, req: Any, insert_params: Any, token_ids_len: int, is_finished: bool
) -> Any:
    """Prepare an insert into the unified cache of which all is evicted as if nothing were."""
    limit = original(component, req, insert_params, token_ids_len, is_finished)
    page = component.cache.page_size
    if insert_params.get_evicted_seqlen(component.component_type) >= token_ids_len // page * page:
        insert_params.set_evicted_seqlen(component.component_type, 0)
    return limit


PATCH = Patch(
    name="eviction-reaches-insert-boundary",
    kind="fault",
    why="A radix node claims SWA K/V that was evicted; the next request with that prefix reads the dummy page.",
    how="Around window eviction (no margin) and the radix cache's insert (no case for all evicted).",
    upstream="sgl-project/sglang#22470 (opened 2026-04-09, merged)",
    releases=f">=0.5.13,{_BETWEEN}",
    forms=(
        Form(
            ">=0.5.23",
            (
                Anchor(_FREE, "max(sliding_window_size, page_size), page_size"),
                Anchor(_PREPARE, "self.component_type, req.kv.get_evicted_seqlen(self.component_type)"),
            ),
            lambda: (Hook(_FREE, "around", to_the_window), Hook(_PREPARE, "around", boundary_forgotten)),
        ),
        Form(
            ">=0.5.13,<0.5.14",
            (
                Anchor(_EVICT, "envs.SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN.get()"),
                Anchor(_INSERT, "if swa_evicted_seqlen == total_prefix_length + len(key):"),
            ),
            lambda: (Hook(_EVICT, "around", without_margin), Hook(_INSERT, "around", as_if_alive)),
        ),
    ),
    remove_when="Never: it is an exhibit. Move the anchors when eviction moves.",
)
