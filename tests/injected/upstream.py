"""Bugs that upstream has fixed since June 2026, put back where they lived.

What each thread says was read in a stored copy of it. Each has an entry in known_issues.toml. `group-looks-up-late`
(frees.py) is #36646, another of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import Release, View
from g4diag.stack.drive.allocators import extend
from g4diag.stack.drive.request_state import request_row
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.releases import current
from tests.injected.contract import Fault
from tests.injected.frees import left_behind
from tests.injected.server import PAGE, SIZES, serving, target
from tests.injected.trees import COMPONENT, LEGACY, is_match, python_core
from tests.injected.watching import Watched

_CHUNK = 6 * PAGE
_IDS = [1 + 7 * i % 250 for i in range(8 * PAGE)]


def _is_release(view: View) -> bool:
    return isinstance(view, Release)


def _needs(place: str, why: str) -> Callable[[], str]:
    return lambda: "" if current().has(place) else why


def _segment(live: Watched, broken: bool) -> None:
    """#38519, #38269: the SWA half of a page is freed that has none; as a set of slots or, with the fault, as a
    segment, whose frees do not leave out what is unmapped."""
    server = target(live)
    evicted = left_behind(server)
    live.begin()
    live.begin_step()
    server.allocator.free_swa(evicted)
    if broken:
        server.allocator.free_swa_segment(evicted, start_pos=0)
    else:
        server.allocator.free_swa(evicted)
    server.decode()


def _chunked(sizes: Geometry, tokens: int, again: int) -> Callable[[Watched, bool], None]:
    """A prompt of so many tokens is prefilled in chunks; another comes that begins as its first chunk, and leaves; and
    then one that begins with the first `again` tokens."""

    def drive(live: Watched, broken: bool) -> None:
        with python_core():
            server = Serving(replace(sizes, chunk=_CHUNK), seed=0)
        server.allocator.swa_attn_allocator.alloc(PAGE)
        live.begin()
        live.begin_step()
        server.admit("r0", _IDS[:tokens])
        live.begin_step()
        server.admit("r1", [*_IDS[:_CHUNK], 3, 2, 1])
        server.release(server.running.reqs[1])
        live.begin_step()
        server.admit("r2", [*_IDS[:again], 3, 2, 1])

    return drive


def _boundary_dropped() -> list[Hook]:
    """#29350, of the unified cache: only a finished request says how far its SWA K/V is gone."""

    def prepare(original: Callable[..., Any], component: Any, req: Any, insert_params: Any, **rest: Any) -> Any:
        limit = original(component, req, insert_params, **rest)
        if not rest["is_finished"]:
            insert_params.set_evicted_seqlen(component.component_type, 0)
        return limit

    def free(original: Callable[..., None], component: Any, req: Any, pre_len: int, insert_params: Any) -> None:
        original(component, req, pre_len, insert_params)
        insert_params.set_evicted_seqlen(component.component_type, 0)

    hooks = {"prepare_for_caching_req": prepare, "free_out_of_window_slots": free}
    return [Hook(f"{COMPONENT}.{name}", "around", function) for name, function in hooks.items()]


def _evicted_before() -> list[Hook]:
    """#36909: the older cache as released, and eviction before a chunk is inserted, which it was not made for."""

    def insert(original: Callable[..., None], cache: Any, req: Any, *args: Any, **kwargs: Any) -> None:
        gone = (len(req.get_fill_ids()) - cache.sliding_window_size - PAGE) // PAGE * PAGE
        if gone > max(req.swa_evicted_seqlen, req.cache_protected_len):
            start = max(req.swa_evicted_seqlen, req.cache_protected_len)
            row = cache.req_to_token_pool.req_to_token[request_row(req), start:gone]
            cache.token_to_kv_pool_allocator.free_swa(row.long())
            req.swa_evicted_seqlen = gone
        original(cache, req, *args, **kwargs)

    return [Hook(f"{LEGACY}.cache_unfinished_req", "around", insert)]


def _lock_released(live: Watched, broken: bool) -> None:
    """#27038: a lock on the longer of two prefixes is taken and given back without where it ended, so that the shorter
    one's, which another request holds, is given back too. Then the SWA pool runs short."""
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams

    with python_core():
        server = serving()
    live.begin_step()
    server.admit("r0", _IDS[: 4 * PAGE])
    server.admit("r1", [*_IDS[: 4 * PAGE], *range(100, 100 + 3 * PAGE)])
    live.begin()
    live.begin_step()
    node, receipt = _locked(server, server.running.reqs[1])
    # 0.5.23 asserts when it comes to a node that nobody has locked, above the one that it has unlocked wrongly.
    with suppress(AssertionError) if broken else nullcontext():
        server.tree_cache.dec_lock_ref(node, _endless(receipt) if broken else receipt)
    server.tree_cache.evict(EvictParams(num_tokens=0, swa_num_tokens=4 * PAGE))
    server.decode()


def _locked(server: Serving, req: Any) -> tuple[Any, Any]:
    """(the node, what it takes to give the lock back)."""
    lock = getattr(req, "lock", None)
    node = req.last_node if lock is None else lock.node
    return node, server.tree_cache.inc_lock_ref(node).to_dec_params()


def _endless(receipt: Any) -> Any:
    """The same, of a lock that reaches up to the root."""
    if hasattr(receipt, "component_lock_uuids"):
        return replace(receipt, component_lock_uuids=dict.fromkeys(receipt.component_lock_uuids))
    return replace(receipt, swa_uuid_for_lock=None)


def _in_two(live: Watched, broken: bool) -> None:
    """#38941: the tail of a row that is no whole page, and what comes after it, are one free; with the fault two."""
    server = target(live)
    row = extend(server.allocator, 3 * PAGE)
    live.begin()
    live.begin_step()
    seam = PAGE + PAGE // 2
    for piece in (row[:seam], row[seam:]) if broken else (row,):
        server.allocator.free(piece)
    server.decode()


_SEGMENTS = _needs("swa.free_swa_segment", "segments are freed apart since 0.5.20")
_EVICTS_FIRST = _needs("swa.free_swa_segment", "nothing is evicted before an unfinished insert")
FAULTS = (
    Fault(
        "segment-frees-dummy",
        "A segment without SWA K/V has its SWA half freed: page 0, the dummy, goes on the SWA free list.",
        _segment,
        shows=_is_release,
        must_not=("free-swa-per-token", "overallocated-tail-freed-twice"),
        threads=("#38519", "#38269"),
        lacks=_SEGMENTS,
    ),
    Fault(
        "unfinished-insert-drops-boundary",
        "A chunk is inserted into the unified cache as if all of it still had its SWA K/V.",
        _chunked(SIZES, 7 * PAGE, 3 * PAGE),
        hooks=_boundary_dropped,
        shows=is_match,
        threads=("#29350",),
        must_not=("deferred-free-remap",),
        lacks=_EVICTS_FIRST,
    ),
    Fault(
        "unfinished-insert-drops-boundary-legacy",
        "A chunk whose first pages were evicted is inserted into SWARadixCache as if it still had their SWA K/V.",
        _chunked(SIZES, 7 * PAGE, 3 * PAGE),
        hooks=_evicted_before,
        shows=is_match,
        threads=("#36909",),
        must_not=("deferred-free-remap",),
        lacks=_needs("tree.match", "there is no SWARadixCache"),
    ),
    Fault(
        "swa-lock-over-released",
        "A lock is given back without where it ended: a prefix that another request's window is in can be evicted.",
        _lock_released,
        must_not=("evict-past-insert", "bigram-units"),
        threads=("#27038",),
    ),
    Fault(
        "row-freed-mid-page",
        "A request's row is freed in two pieces whose seam lies inside a page: the second frees that page again.",
        _in_two,
        shows=_is_release,
        must_not=("overallocated-tail-freed-twice", "stale-mapping-on-recycle"),
        threads=("#38941",),
    ),
)
