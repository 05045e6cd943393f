"""What releases after 0.5.13 do elsewhere: in each of those places an injected fault is seen, and its absence too.

The write location that a pool is handed, the pages that wait to be sorted in, the one place that pages come back
through, segments of a row, the capture of a draft's graph, the write that goes round the pools, and the row that a
request keeps in its `kv`. Where an earlier release has something of the kind, the same is asked of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import Hook, install
from g4diag.model import FreeList, KVSlots, KVWrite, MappingUpdate, PoolSwap, Release, View, Violation
from g4diag.patches.applying import applied
from g4diag.scenario.measure import judge_all
from g4diag.stack.drive import cpu
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.frozen_worker import target_view
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.drive.swa_pool import build, int64
from g4diag.stack.live.scheduler_hooks import rids_of
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live
from g4diag.stack.probes.allocation import AllocationProbe
from g4diag.stack.probes.kv_slots import KVSlotsProbe
from g4diag.stack.probes.kv_write import KVWriteProbe
from g4diag.stack.probes.pool_swap import PoolSwapProbe
from g4diag.stack.probes.workers import Backends
from g4diag.stack.releases import current
from repro import fp8_write_full_index

PAGE = 4
PAGE_TABLE = ("page_table_stays_in_pool", "page_table_in_layer_space")
in_one_place = pytest.mark.skipif(
    not current().has("paged.release_page_ids"), reason="pages come back through `free` in this release"
)


def blind(query: torch.Tensor, **arguments: Any) -> torch.Tensor:
    return torch.zeros(query.shape)


@contextmanager
def watched(*probes: Callable[[Backends, Callable[[Any], None]], Any]) -> Iterator[list[View]]:
    """What these probes and the backends' own see."""
    views: list[View] = []
    backends = Backends(views.append)
    hooks = [hook for each in (backends, *(make(backends, views.append) for make in probes)) for hook in each.hooks()]
    with install("test", hooks), cpu.attention_kernels(blind, blind):
        yield views


def allocations(backends: Backends, sink: Callable[[Any], None]) -> AllocationProbe:
    return AllocationProbe(sink, stock_every=1)


def paged(*, need_sort: bool = False) -> Any:
    from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator

    return PagedTokenToKVPoolAllocator(8 * PAGE, PAGE, torch.float32, "cpu", None, need_sort)


def found(views: list[View], kind: type) -> tuple[int, list[Violation]]:
    """How many views of that kind there were, and what is wrong in any."""
    return sum(isinstance(view, kind) for view in views), [bad for view in views for bad in judge_all(view)]


def drafting() -> FrozenDraft:
    """A draft over a server with two requests, no page of which has the same number in both spaces."""
    serving = Serving(Geometry(requests=2), seed=0)
    serving.allocator.swa_attn_allocator.alloc(serving.geometry.page_size)
    draft = FrozenDraft(serving)
    for rid, ids in serving.prompts():
        assert serving.admit(rid, ids)
    return draft


@pytest.mark.parametrize("swa_slot", ["its own", "the full one"])
def test_a_write_location_with_the_wrong_swa_slots(swa_slot: str) -> None:
    with watched(KVSlotsProbe) as views:
        serving = Serving(Geometry(requests=1), seed=0)
        serving.allocator.swa_attn_allocator.alloc(serving.geometry.page_size)
        for rid, ids in serving.prompts():
            assert serving.admit(rid, ids)
        del views[:]
        pool, config = serving.kv_pool, serving.config
        full = int64([int(serving.request_pool.req_to_token[1, 0])])
        swa = pool.translate_loc_from_full_to_swa(full) if swa_slot == "its own" else full
        kv = torch.zeros(1, config.num_key_value_heads, config.head_dim)
        layer = SimpleNamespace(layer_id=config.layer_types.index("sliding_attention"))
        driver().write_kv(pool, layer, full, swa, kv, kv)
    seen, bad = found(views, KVSlots)
    assert seen == 1 and [each.trap for each in bad] == ["kv_slots_in_layer_space"] * (swa_slot != "its own")


@pytest.mark.parametrize("broken", [False, True])
def test_a_live_page_among_those_that_wait_to_be_sorted_in(broken: bool) -> None:
    """No free list: the free pages are one tensor, and a list of tensors or another tensor beside it."""
    with watched(allocations) as views:
        made = paged(need_sort=True)
        slots = made.alloc(3 * PAGE)
        made.free(slots[:PAGE])
        if broken:
            live = slots[PAGE : PAGE + 1] // PAGE
            if hasattr(made, "staged_pages"):
                made.staged_pages.append(live)
            else:
                made.release_pages = torch.cat([made.release_pages, live])
        made.alloc(PAGE)
    seen, bad = found(views, FreeList)
    assert seen == 3 and {each.trap for each in bad} == ({"free_list_is_free"} if broken else set())
    waiting = [view.pool.free_pages_N for view in views if isinstance(view, FreeList)][1]
    assert waiting is not None and 1 in waiting.tolist(), "a page that came back waits"


def _by_id(made: Any, slots: Any) -> None:
    made.free_page_ids(slots[:1] // PAGE)


def _by_segment(made: Any, slots: Any) -> None:
    made.free_segment(slots, start_pos=0)


def _in_a_group(made: Any, slots: Any) -> None:
    made.free_group_begin()
    made.free_page_ids(slots[:1] // PAGE)
    made.free_group_end()


@in_one_place
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("way", [_by_id, _by_segment, _in_a_group], ids=lambda way: way.__name__)
def test_a_page_that_comes_back_twice_round_free(way: Callable[[Any, Any], None], times: int) -> None:
    with watched(allocations) as views:
        made = paged()
        slots = made.alloc(2 * PAGE)
        for _ in range(times):
            way(made, slots[:PAGE])
    seen, bad = found(views, Release)
    wanted = {"free_of_live_only", "free_list_is_free"} if times == 2 else set()
    assert seen == times and {each.trap for each in bad} == wanted


@in_one_place
@pytest.mark.parametrize("broken", [False, True])
def test_a_segment_of_a_row_that_keeps_its_mapping(broken: bool) -> None:
    with watched(allocations) as views:
        made = build(page_size=PAGE, full_pages=8, swa_pages=6, need_sort=False)
        slots = made.alloc_extend(int64([0]), int64([0]), int64([8]), int64([8]), int64([-1]), 8)
        if broken:
            made.clear_full_to_swa_mapping = lambda slots: None
        made.free_segment(slots, start_pos=0)
    seen, bad = found(views, MappingUpdate)
    assert seen == 2
    assert [(each.trap, each.phase) for each in bad] == [("mapping_follows_allocation", "free_swa_segment")] * broken


@pytest.mark.parametrize("broken", [False, True])
def test_a_capture_that_leaves_the_targets_pool_in_the_drafts_backend(broken: bool) -> None:
    def forgetful(original: Callable[..., Any], runner: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(runner, *args, **kwargs)
        runner.draft_attn_backend.token_to_kv_pool = runner.frozen_kv_mtp_worker.kv_context.target_token_to_kv_pool
        return result

    path = current().path("graph_runner.capture")
    with ExitStack() as stack:
        if broken:
            stack.enter_context(install("fault", [Hook(path, "around", forgetful)]))
        views = stack.enter_context(watched(PoolSwapProbe))
        drafting()
    site = f"FrozenKVMTPCudaGraphRunner.{path.rpartition('.')[2]}"
    assert any(isinstance(view, PoolSwap) and view.site == site for view in views)
    bad = [violation for view in views for violation in judge_all(view)]
    assert {violation.trap for violation in bad} == ({"swa_state_follows_pool"} if broken else set())
    assert not broken or f"{site} (exit)" in bad[0].summary


@pytest.mark.parametrize("in_view", [False, True])
def test_a_fused_write_in_a_frozen_view(in_view: bool) -> None:
    """It goes round the pools, whose writes are seen too: none of those is made here."""

    class FusedAlone(KVWriteProbe):
        def _written(self, *args: Any, **kwargs: Any) -> None:
            pytest.fail("K/V went through a pool's own write")

    with watched(FusedAlone) as views:
        # A server that has served nobody, and so has written nothing.
        draft = FrozenDraft(Serving(Geometry(requests=1), seed=0))
        with target_view(draft.worker) if in_view else nullcontext():
            written = fp8_write_full_index.drive()
    seen, bad = found(views, KVWrite)
    assert written.checked == 16 and seen == 4 * in_view
    assert [each.trap for each in bad] == ["draft_writes_no_kv"] * seen


@pytest.mark.parametrize("broken", [False, True])
def test_a_violation_names_the_request_whose_row_it_is(
    broken: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are read from real requests, wherever a release keeps them; one that has finished has none."""
    live = Live([traps()[name] for name in PAGE_TABLE], tmp_path, on_device=True)
    with applied(["faulty-rule"] * broken), install("test", live.hooks()), cpu.attention_kernels(blind, blind):
        draft = drafting()
        serving = draft.serving
        live.begin_step()
        draft.eager()
        rids = rids_of(serving.running)
        live.end_step(rids)
        first = serving.running.reqs[0]
        serving.release(first)
    assert live.device is not None and live.device.launches
    assert set(rids.values()) == {"r0", "r1"} and rids_of(SimpleNamespace(reqs=[first])) == {}
    said = [record.message for record in caplog.records if record.message.startswith("g4diag violation")]
    assert bool(said) == broken
    for line in said:
        row, rid = re.search(r" row=(\d+) request=(\w+) ", line).groups()  # type: ignore[union-attr]
        assert rid == ["r0", "r1"][int(row)]
