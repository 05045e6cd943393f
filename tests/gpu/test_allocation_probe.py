"""Allocator traps where ids live on a GPU: nothing waits, nothing is lost, and the order is kept."""

from __future__ import annotations

import pytest


@pytest.mark.gpu
def test_calls_are_judged_in_order_without_a_sync() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sglang")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator

    from g4diag.hooks.install import install
    from g4diag.model import View
    from g4diag.scenario.measure import judge_all
    from g4diag.stack.probes.allocation import AllocationProbe

    views: list[View] = []
    probe = AllocationProbe(views.append, stock_every=1)
    with install("test", probe.hooks()):
        made = PagedTokenToKVPoolAllocator(64 * 64, 64, torch.bfloat16, "cuda", None, False)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            slots = made.alloc(32 * 64)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        made.free(slots[: 8 * 64])
        made.alloc(8 * 64)
        probe.arrivals.finish()
        assert len(views) == 6 and not [v for view in views for v in judge_all(view)]
        made.free(slots[:64])
        made.free(slots[:64])
        probe.arrivals.finish()
    assert {v.trap for view in views for v in judge_all(view)} == {"free_of_live_only", "free_list_is_free"}
