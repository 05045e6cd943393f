"""The real caches hold what they claim, the machines notice when they do not, and one find of 0.5.13 is pinned."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.machines.swa_chunk_cache import MACHINE as CHUNK
from g4diag.fuzz.machines.swa_radix_cache import MACHINE as RADIX
from g4diag.fuzz.runner import Budget, run
from g4diag.fuzz.session import Broken, opened
from g4diag.hooks.anchors import has_module
from g4diag.hooks.targets import imported
from g4diag.stack.drive import allocation_kernels as kernels
from g4diag.stack.drive.cache_server import can_wait_to_evict, tree_cores
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.swa_pool import int64
from tests.patches.releases import need_available


@pytest.mark.parametrize("machine", [RADIX, CHUNK], ids=lambda machine: machine.name)
def test_a_cache_holds_what_it_claims(machine: Machine) -> None:
    """... at every step of random programs; which of them reach every goal is the campaign's business."""
    found = run(machine, Budget(examples=8), seed=1)
    assert found.failure is None
    assert found.coverage["finished"] and all(found.judged[name] for name in machine.oracle)


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        # Which of the two sees it first: the match, or the read.
        ("eviction-reaches-insert-boundary", "(matched_prefix|page_in_window)_is_mapped"),
        ("bigram-key-loses-frontier", "(matched_prefix|page_in_window)_is_mapped"),
        ("overallocated-tail-freed-twice", "free_of_live_only"),
    ],
)
def test_a_bug_put_back_is_named_in_a_few_steps(fault: str, claim: str) -> None:
    need_available(fault)
    with opened(RADIX, [fault]), pytest.raises(Broken, match=f"^{claim}: "):
        _program(fault)
    with opened(RADIX):
        _program(fault)


def _program(fault: str) -> None:
    """What the machine found, without its detours."""
    state = RADIX.drives()
    eagle = fault != "eviction-reaches-insert-boundary"
    at_once = {"interval": 1} if can_wait_to_evict() else {}
    state.start(sizes=(16, 1), pages=(8, 8), chunk_pages=0, eagle=eagle, overlap=eagle, length=48, **at_once)
    state.submit(asked=[(0, 0, 10, 0)], token=0)
    if fault == "bigram-key-loses-frontier":
        state.run(times=12, token=0, accepted=3)
        state.run(times=12, token=0, accepted=1)
    elif not eagle:
        state.run(times=19, token=0, accepted=1)
    if state.running_rids():
        state.abort(picked=["r0"], token=0)
    state.holds()


def test_the_fast_row_kernel_writes_what_the_interpreted_one_writes() -> None:
    kernel = imported(driver().SCHEDULING.ROW_KERNEL)
    rows, starts, ends = int64([2, 1, 3]), int64([0, 5, 7]).int(), int64([40, 5, 9]).int()
    tables = [torch.zeros(4, 64, dtype=torch.int32) for _ in range(2)]
    slots = torch.randperm(42)
    kernel[(3,)](rows, tables[0], starts, ends, slots, 64, 4)
    kernels.fast_rows(rows, tables[1], starts, ends, slots, 64, 4)
    assert torch.equal(*tables) and tables[0].any()


@pytest.mark.xfail(
    has_module("sglang.srt.mem_cache.swa_radix_cache"),
    strict=True,
    raises=Broken,
    reason="SWARadixCache of 0.5.13: sglang #29352, merged 2026-06-30",
)
@pytest.mark.parametrize("core", tree_cores() or ("",))
def test_a_locked_prefix_stays(core: str) -> None:
    """A find in healthy sglang: an insert that gives a tombstone its SWA K/V back frees the node's full slots, though
    running requests hold its full lock and read them. Their full layers then read what the next request writes. The
    unified cache of later releases keeps them, and maps them anew."""
    strict = type("Strict", (RADIX.drives,), {"__module__": __name__, "tolerant": False})
    with opened(RADIX):
        strict_state = strict()
        try:
            if core:
                _recovery_under_a_lock(strict_state, core)
            else:
                _recovery_under_a_lock_in_swa_radix_cache(strict_state)
        except Broken as error:
            if error.claim != "model:locked_prefix_stays":
                pytest.fail(f"another claim broke: {error}")
            raise
        assert strict_state.reached.get("recovered_under_lock"), "no locked tombstone was given its SWA K/V back"


@pytest.mark.skipif(not driver().SCHEDULING.LAYER_WINDOW_PAST_CACHE, reason="its layers' window is the cache's")
@pytest.mark.xfail(
    strict=True,
    raises=Broken,
    reason="0.5.13: Gemma-4's layers read a key more than the cache keeps, see docs/finds/window-margin.md",
)
def test_a_match_holds_all_that_its_next_query_reads() -> None:
    """A find in healthy sglang, for pages of one token: a match may end a window of the cache's past a tombstone."""
    wide = type("Wide", (RADIX.drives,), {"__module__": __name__, "narrow": False})
    with opened(RADIX):
        state = wide()
        try:
            state.start(sizes=(1, 1), pages=(0, 1), chunk_pages=1, eagle=False, overlap=False, length=0)
            for asked, times in (([(0, 10, 1, 0), (0, 20, 1, 0)], 0), ([(0, 0, 1, 0)], 4), ([(0, 5, 1, 0)], 4)):
                state.submit(asked=asked, token=0)
                state.run(accepted=1, times=times, token=0)
                state.holds()
        except Broken as error:
            if error.claim != "page_in_window_is_mapped":
                pytest.fail(f"another claim broke: {error}")
            raise
        assert state.reached["tombstoned"] and state.reached["shared_prefix"]


def _recovery_under_a_lock(state: Any, core: str) -> None:
    """As the machine came upon it when it looked for that: the window is evicted, and a request that computes the same
    prefix anew brings its SWA K/V."""
    state.start(sizes=(16, 1), pages=(0, 0), chunk_pages=1, eagle=False, overlap=True, length=17, core=core, interval=1)
    for rid in ("r0", "r1"):
        state.submit(asked=[(0, 0, 1, 0)], token=0)
        state.abort(picked=[rid], token=0)
    state.submit(asked=[(0, 0, 1, 0), (0, 0, 1, 0), (0, 29, 3, 0)], token=0)
    for times in (5, 18):
        state.run(accepted=1, times=times, token=0)
        state.holds()  # as the machine after each step: what became of a slot is told by two looks


def _recovery_under_a_lock_in_swa_radix_cache(state: Any) -> None:
    """As shrunk: a full pool, one running request, and others that compute its prefix anew."""
    state.start(sizes=(1, 1), pages=(0, 0), chunk_pages=0, eagle=True, overlap=True, length=8)
    state.submit(asked=[(0, 0, 1, 0), (0, 0, 1, 0)], token=0)
    state.run(accepted=1, times=4, token=0)
    state.flush()
    state.submit(asked=[(0, 3, 2, 0), (0, 2, 2, 0)], token=0)
    state.submit(asked=[(0, 6, 2, 0), (0, 13, 2, 0), (0, 4, 1, 0)], token=0)
    state.submit(asked=[(0, 0, 2, 0)], token=0)
    state.run(accepted=1, times=4, token=0)
    state.run(accepted=1, times=4, token=0)
    state.submit(asked=[(0, 3, 1, 0), (0, 2, 1, 0)], token=0)
    state.submit(asked=[(0, 0, 1, 0)], token=0)
    state.holds()
