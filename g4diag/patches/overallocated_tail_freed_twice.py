"""Under speculation the slots allocated ahead are freed from one page too early: the last page goes back twice.

Issue: sglang #27789 (2026-06-10): on a hybrid-SWA model with EAGLE and pages larger than 1 the pool's sums are over by
exactly one page, now and then; read in a stored copy, whose excerpt does not say why. #27779 and #27586 are as old.
A finished request gives back its committed tokens and then what was allocated ahead of them. Both end or begin in the
same page, and a page is freed whole: the second range must begin at the next one.
What breaks: the page is on the free list twice, one too many in the sum, and two requests get it later.
Put back: the nearest equivalent, and our reading. What 0.5.13 rounds up to a page, in `release_kv_cache`, begins at the
page's first slot. In the issue one pool is over; here the full one is, and the SWA one too, as slots allocated ahead
in the last page are still mapped (#27779, alive in 0.5.13). From 0.5.20 on a function of its own does the rounding, and
frees what is ahead as a piece of the request's row: it is handed the first slot of the page, which it leaves so.
Named by `free_of_live_only`. It takes a request that finishes with slots ahead in a page it has begun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches.contract import Form, Patch

_BETWEEN = ",".join(f"!=0.5.{minor}.*" for minor in range(14, 20))  # other texts, which nobody has tried
_RELEASE = "sglang.srt.mem_cache.common._release_overallocated_kv_indices"
_AHEAD = "sglang.srt.managers.schedule_batch.Req.pop_overallocated_kv_cache"


def from_page_start(original: Callable[..., tuple[int, int]], req: Any) -> tuple[int, int]:
    """(first, end) position allocated ahead, the first rounded down to its page, if there are any."""
    from sglang.srt.server_args import get_global_server_args

    first, end = original(req)
    return (first - first % get_global_server_args().page_size if first < end else first), end


def first_of_page(original: Callable[..., None], req: Any, start_p: int, end_p: int, tree_cache: Any) -> None:
    """Free what was allocated ahead from the start of the page in which it begins, if there is any."""
    page = tree_cache.token_to_kv_pool_allocator.page_size
    original(req, start_p - start_p % page if start_p < end_p else start_p, end_p, tree_cache)


PATCH = Patch(
    name="overallocated-tail-freed-twice",
    kind="fault",
    why="A finished speculative request frees its last page twice, and two requests are given that page later.",
    how="Around what says, or frees, what was allocated ahead: it begins at the start of its page.",
    upstream="sgl-project/sglang#27789 (reported 2026-06-10); nearest equivalent",
    releases=f">=0.5.13,{_BETWEEN}",
    forms=(
        Form(
            ">=0.5.20",
            (
                Anchor(_RELEASE, "start_p = ceil_align(start_p, page_size)"),
                Anchor(_RELEASE, "tree_cache.free_kv_row(req.kv, [(start_p, end_p)])"),
            ),
            lambda: (Hook(_RELEASE, "around", first_of_page),),
        ),
        Form(
            ">=0.5.13,<0.5.14",
            (
                Anchor(_AHEAD, "return self._cache_commit_len(), self.kv_allocated_len"),
                Anchor("sglang.srt.mem_cache.common.release_kv_cache", "start_p = ceil_align(start_p, page_size)"),
            ),
            lambda: (Hook(_AHEAD, "around", from_page_start),),
        ),
    ),
    remove_when="Never: it is an exhibit. Move the anchors when the release of a request moves.",
)
