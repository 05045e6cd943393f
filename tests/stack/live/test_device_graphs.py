"""What the device check judges in a graph beside the table: on the CPU-driven stack, with the real graph runner of a
frozen-KV draft, whose graphs are closures, and the same kernels, interpreted."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from g4diag import guard
from g4diag.hooks.install import Hook, install
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.frozen_worker import replay_of
from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
from g4diag.stack.drive.request_state import request_row
from g4diag.stack.drive.serving import Serving
from g4diag.stack.live import device_boxes
from g4diag.stack.live.device_check import IN_GRAPHS
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live
from g4diag.stack.live.told_batch import REPLAYS, Told
from g4diag.stack.live.told_lengths import Lengths
from g4diag.stack.probes import page_table
from g4diag.stack.probes.request_rows import RequestRows
from g4diag.stack.releases import current
from tests.injected import server as small
from tests.injected.rows import _row_to_another
from tests.injected.tables import _after_plan, _lengths, _old_lengths

ALL_PARTS = ("batches told to the device", "device check", "device check of writes")


class OnDevice(Live):
    """The live sink, deaf to the probes: what it has is the device check's alone."""

    def sink(self, view: Any) -> None:
        pass


@contextmanager
def armed(tmp_path: Path, names: frozenset[str] = IN_GRAPHS) -> Iterator[OnDevice]:
    """Those traps, on the device."""

    def blind(query: Any, **arguments: Any) -> Any:
        return torch.zeros_like(query)

    live = OnDevice([traps()[name] for name in sorted(names)], tmp_path, on_device=True)
    with cpu.attention_kernels(blind, blind), install("traps", live.hooks()):
        yield live


def replayed(live: OnDevice, draft: FrozenDraft) -> None:
    """A step of the draft, through its graph."""
    live.begin_step()
    draft.graph()
    live.end_step(draft.serving.rid_of)


def drafting() -> FrozenDraft:
    """A frozen-KV draft over a target with two requests, of different lengths."""
    draft = FrozenDraft(small.serving())
    small.admit(draft.serving, "r0")
    small.admit(draft.serving, "r1", small.PROMPT - 3 * small.PAGE)
    return draft


def a_page_on(draft: FrozenDraft) -> None:
    """So that an old length and an old table are of another page."""
    for _ in range(small.PAGE + 1):
        draft.serving.decode()


def old_lengths(draft: FrozenDraft) -> None:
    """A replay's plan leaves the lengths of the one before."""
    _after_plan(draft.backend, _lengths, _old_lengths)


def runner_of_old_batch(draft: FrozenDraft) -> None:
    """The graph's static buffers are not filled: plan and buffers agree, on the batch before."""
    graphs = draft.worker.cuda_graph_runner
    kept = {name: getattr(graphs.buffers, name).clone() for name in ("seq_lens", "req_pool_indices")}
    honest = draft.worker._init_frozen_kv_metadata_replay_cuda_graph

    def planned(batch: Any, *args: Any) -> None:
        for name, old in kept.items():
            getattr(graphs.buffers, name).copy_(old)
        for name in kept:
            setattr(batch, name, getattr(graphs.buffers, name)[: batch.batch_size])
        honest(batch, *args)

    draft.worker._init_frozen_kv_metadata_replay_cuda_graph = planned


def rows_flipped(draft: FrozenDraft) -> None:
    """The graph reads each of two requests' rows for the other."""
    graphs = draft.worker.cuda_graph_runner
    honest = draft.worker._init_frozen_kv_metadata_replay_cuda_graph

    def planned(batch: Any, *args: Any) -> None:
        for tensor in (graphs.buffers.req_pool_indices[:2], batch.req_pool_indices[:2]):
            if int(tensor[0]) == request_row(draft.serving.running.reqs[0]):
                tensor.copy_(tensor.flip(0).clone())
        honest(batch, *args)

    draft.worker._init_frozen_kv_metadata_replay_cuda_graph = planned


def window_lost(draft: FrozenDraft) -> None:
    """The mapping forgets a page in the window."""
    draft.serving.allocator.full_to_swa_index_mapping[small.last_page(draft.serving, 0)] = 0


def runs_swapped(draft: FrozenDraft) -> None:
    """Two requests' pages change places in the mapping, behind the allocators' backs."""
    first, second = (small.last_page(draft.serving, i) for i in range(2))
    mapping = draft.serving.allocator.full_to_swa_index_mapping
    mapping[first], mapping[second] = mapping[second].clone(), mapping[first].clone()


FAULTS: dict[str, tuple[Callable[[FrozenDraft], None], frozenset[str]]] = {
    "old lengths": (old_lengths, frozenset({"table_is_of_this_step"})),
    "runner of the old batch": (runner_of_old_batch, frozenset({"table_is_of_this_step"})),
    "rows flipped": (rows_flipped, frozenset({"request_row_is_of_its_request"})),
    "window lost": (window_lost, frozenset({"page_in_window_is_mapped"})),
    "runs swapped": (runs_swapped, frozenset({"mapping_is_what_was_handed_out"})),
}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Names of the traps that fired, in order."""
    found = (re.search(r"trap=(\w+)", record.message) for record in caplog.records)
    return [match[1] for match in found if match]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_graph_is_named_by_the_trap_of_its_kind_and_by_no_other(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put, expected = FAULTS[name]
    with armed(tmp_path) as live:
        draft = drafting()
        replayed(live, draft)
        a_page_on(draft)
        assert not said(caplog), "healthy so far"
        put(draft)
        replayed(live, draft)
    assert frozenset(said(caplog)) == expected
    lines = [record.message for record in caplog.records if "trap=" in record.message]
    assert all("path=graph" in line for line in lines)


def test_healthy_replays_are_judged_and_leave_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with armed(tmp_path) as live:
        draft = drafting()
        for _ in range(3):
            a_page_on(draft)
            replayed(live, draft)
        assert live.device is not None and live.device.launches >= 6
        told = live.device.told.of("draft", "draft_decode", torch.zeros(1))
        assert told is not None and told.requests == 2
        assert told.rows_M[:2].tolist() == [request_row(req) for req in draft.serving.running.reqs]
        assert told.lengths_M[:2].tolist() == draft.serving.running.seq_lens.tolist()
        assert told.rows_M[2:].max() < 0
    assert not said(caplog)


@pytest.mark.parametrize("owner", [RequestRows, Told, Lengths])
def test_a_batch_that_could_not_be_told_is_not_judged_by_the_one_before(
    owner: type, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours, as a server goes on after it: no alarm, and the next batch is judged again."""

    def fails(*args: Any) -> None:
        raise RuntimeError("no memory")

    name = {RequestRows: "rows_of", Told: "tell", Lengths: "_copy"}[owner]
    monkeypatch.setattr(guard, "_told", Counter())
    was = guard.set_raising(False)
    try:
        with armed(tmp_path) as live:
            draft = drafting()
            replayed(live, draft)
            a_page_on(draft)
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, fails)
                replayed(live, draft)
            assert "no memory" in caplog.text and not said(caplog)
            old_lengths(draft)
            replayed(live, draft)
            a_page_on(draft)
            replayed(live, draft)
    finally:
        guard.set_raising(was)
    assert said(caplog) == ["table_is_of_this_step"]


def test_a_row_given_away_before_a_replay_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with armed(tmp_path) as live:
        draft = FrozenDraft(small.serving())
        for i in range(2):
            small.admit(draft.serving, f"r{i}")
        replayed(live, draft)
        batch = draft._forward_batch(None)
        _row_to_another(draft.serving)
        assert not said(caplog)
        live.begin_step()
        replay_of(draft.worker.cuda_graph_runner)(batch)
        live.end_step(draft.serving.rid_of)
    assert "request_row_is_of_its_request" in said(caplog)
    (line,) = [record.message for record in caplog.records if "trap=request_row" in record.message]
    assert "given away since the batch was built" in line


@contextmanager
def result_processed(draft: FrozenDraft, index: int) -> Iterator[None]:
    """As `Scheduler.event_loop_overlap` has it with a grammar: a batch is scheduled, then the result before it is
    processed, in which one of its requests finishes, then the batch runs. In the body that batch is the running one."""
    serving = draft.serving
    scheduled, hidden = copy.copy(serving.running), dict(serving.hidden)
    scheduled.reqs = list(scheduled.reqs)
    serving.release(scheduled.reqs[index])
    rest, serving.running = serving.running, scheduled
    serving.hidden.update(hidden)
    yield
    serving.running = rest


def test_a_request_that_finished_after_its_batch_was_scheduled_is_held_against_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has given its pages back, and what its row still reads is thrown away."""
    with armed(tmp_path) as live:
        draft = drafting()
        replayed(live, draft)
        left, stays = draft.serving.running.reqs
        row = request_row(left)
        with result_processed(draft, 0):
            replayed(live, draft)
        assert not said(caplog) and live.device is not None
        told = live.device.told.of("draft", "draft_decode", torch.zeros(1))
        assert told is not None and told.rows_M[:2].tolist() == [-1, request_row(stays)]
        assert row is not None and draft.serving.request_pool.req_to_token[row].any(), "its row reads as it did"
        window_lost(draft)
        replayed(live, draft)
    assert said(caplog) == ["page_in_window_is_mapped"], "who stays is judged"


def judged(live: Live) -> int:
    """Reads of the draft that the trap about a window's pages has had."""
    return live.tally._seen["page_in_window_is_mapped", "draft", "swa", "draft_decode"]


def test_the_same_where_python_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = sorted(name for name, trap in traps().items() if trap.group == "page-table")

    def blind(query: Any, **arguments: Any) -> Any:
        return torch.zeros_like(query)

    live = Live([traps()[name] for name in names], tmp_path)
    with cpu.attention_kernels(blind, blind), install("traps", live.hooks()):
        draft = drafting()
        draft.eager()
        before = judged(live)
        with result_processed(draft, 0):
            draft.eager()
        assert not said(caplog) and judged(live) > before > 0
        window_lost(draft)
        draft.eager()
    assert said(caplog) == ["page_in_window_is_mapped"]


def test_a_replay_for_an_idle_rank_is_held_against_no_batch(tmp_path: Path) -> None:
    """Under DP attention a rank without requests replays a verify's graph over padding, as a forward that idles."""
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    with armed(tmp_path) as live:
        assert live.device is not None
        told = {phase: live.device.told.of("target", phase, torch.zeros(1)) for phase in ("decode", "target_verify")}
        runner = SimpleNamespace(model_runner=SimpleNamespace(is_draft_worker=False, req_to_token_pool=object()))
        two = torch.tensor([3, 4])
        batch = SimpleNamespace(
            forward_mode=ForwardMode.TARGET_VERIFY,
            batch_size=2,
            seq_lens=two,
            req_pool_indices=two,
            out_cache_loc=two,
            rids=None,
        )
        live.device.told._replays(runner, batch)
        verify = told["target_verify"]
        assert verify is not None and verify.rows_M[:3].tolist() == [3, 4, -1] and verify.slots_M[1] == 4
        batch.forward_mode, batch.batch_size, batch.seq_lens = ForwardMode.IDLE, 0, two[:0]
        live.device.told._replays(runner, batch)
        assert max(int(tensor.max()) for tensor in (verify.lengths_M, verify.rows_M, verify.slots_M)) == -1
        batch.forward_mode, batch.batch_size, batch.seq_lens = ForwardMode.TARGET_VERIFY, 2, two
        live.device.told._replays(runner, batch)
        assert verify.rows_M[:2].tolist() == [3, 4], "told anew"
        live.device.told.forget()
        assert verify.rows_M.max() < 0
        live.device.told._replays(runner, batch)
        assert verify.rows_M[:2].tolist() == [3, 4], "and where traps are armed again, by graphs that are there"


def test_what_could_only_be_recorded_is_not_made_while_a_graph_is_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with armed(tmp_path) as live:
        assert live.device is not None
        as_captured(monkeypatch)
        assert live.device.told.of("target", f"never {tmp_path}", torch.zeros(1)) is None
        monkeypatch.undo()
        live.device.told.refused()
        assert live.device.told.of("target", "decode", torch.zeros(1)) is None, "nor where its hooks were refused"


def test_what_no_graph_points_to_is_not_kept(tmp_path: Path) -> None:
    with armed(tmp_path) as live:
        draft = drafting()
        replayed(live, draft)
        kept = len(device_boxes._CAPTURED)
        for _ in range(3):
            replayed(live, draft)
        assert live.device is not None and live.device.launches and len(device_boxes._CAPTURED) == kept


def test_disarmed_checks_that_a_graph_still_holds_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with armed(tmp_path) as live:
        draft = drafting()
        replayed(live, draft)
        device = live.device
        assert device is not None
        kept = device._backends.handed_out.tensor(draft.serving.runner.token_to_kv_pool)
        told = device.told.of("draft", "draft_decode", torch.zeros(1))
        live.disarm()
        assert kept is not None and (kept == -2).all()
        assert told is not None and told.rows_M.max() < 0 and told.slots_M.max() < 0
        assert device._backends.handed_out.tensor(draft.serving.runner.token_to_kv_pool) is None
    assert not said(caplog)


def as_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of ours on a CPU has a target's graph: take its eager steps for one that is being captured."""
    monkeypatch.setattr(page_table, "is_capturing", lambda: True)


def old_swa_slots(server: Serving) -> None:
    """The sliding layers of a decode write to the slots of the decode before."""
    backend = server.runner.attn_backend
    before = backend.forward_metadata.swa_out_cache_loc.clone()
    honest = backend.init_forward_metadata

    def stale(batch: Any) -> None:
        honest(batch)
        backend.forward_metadata.swa_out_cache_loc = before

    backend.init_forward_metadata = stale


def slots_become(value: int) -> Callable[[Serving], None]:
    """... to this slot, each."""

    def put(server: Serving) -> None:
        backend = server.runner.attn_backend
        honest = backend.init_forward_metadata

        def changed(batch: Any) -> None:
            honest(batch)
            slots = backend.forward_metadata.swa_out_cache_loc
            backend.forward_metadata.swa_out_cache_loc = torch.full_like(slots, value)

        backend.init_forward_metadata = changed

    return put


WRITES: dict[str, tuple[Callable[[Serving], None] | None, str]] = {
    "healthy": (None, ""),
    "a step old": (old_swa_slots, r"slot \d+, where SWA slot \d+ belongs"),
    "negative": (slots_become(-1), r"slot -1 is outside the swa pool of \d+ slots"),
    "past the pool": (slots_become(1 << 20), r"slot 1048576 is outside the swa pool of \d+ slots"),
}


@pytest.mark.parametrize("name", WRITES)
def test_slots_of_a_captured_write_are_judged_before_it(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, expected = WRITES[name]
    with armed(tmp_path, frozenset({"kv_slots_in_layer_space"})) as live:
        server = small.serving()
        for i in range(2):
            small.admit(server, f"r{i}")
        server.decode()
        as_captured(monkeypatch)
        if put is not None:
            put(server)
        live.begin_step()
        try:
            server.decode()
        except (IndexError, RuntimeError):
            assert name in ("negative", "past the pool")  # torch's own write on a CPU looks
        assert live.device is not None and 1 <= live.device.writes.launches <= 2, "once a pool, not once a layer"
        live.end_step(server.rid_of)
    assert said(caplog) == (["kv_slots_in_layer_space"] if put else [])
    assert not put or re.search(expected, caplog.text)


def test_slots_that_were_not_handed_out_with_the_batchs_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mapping is wrong, and the write follows it."""
    with armed(tmp_path, frozenset({"kv_slots_in_layer_space", "kv_slots_are_those_handed_out"})) as live:
        server = small.serving()
        for i in range(2):
            small.admit(server, f"r{i}")
        server.decode()
        as_captured(monkeypatch)
        backend, mapping = server.runner.attn_backend, server.allocator.full_to_swa_index_mapping
        honest = backend.init_forward_metadata

        def swapped(batch: Any) -> None:
            first, second = batch.out_cache_loc[:2].tolist()
            mapping[first], mapping[second] = mapping[second].clone(), mapping[first].clone()
            honest(batch)

        backend.init_forward_metadata = swapped
        live.begin_step()
        server.decode()
        live.end_step(server.rid_of)
    assert said(caplog) == ["kv_slots_are_those_handed_out"]
    assert re.search(r"maps to SWA slot \d+, and SWA slot \d+ was handed out with it", caplog.text)


def test_a_pool_smaller_than_its_allocator_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EAGLE draft whose pool has fewer slots than the allocator hands out."""
    with armed(tmp_path, frozenset({"kv_slots_in_layer_space"})) as live:
        server = small.serving(algorithm="EAGLE")
        draft = OwnPoolDraft(server)
        small.admit(server, "r0")
        as_captured(monkeypatch)
        live.begin_step()
        server.decode()
        draft.eager()
        live.end_step(server.rid_of)
        assert not said(caplog)
        check = live.device
        assert check is not None
        launched = check.writes.launches
        pools = check._backends.layer_pool

        def smaller(pool: Any, layer_id: int) -> Any:
            view, kind = pools(pool, layer_id)
            return (replace(view, num_pages=2) if check._backends.owner(pool) == "draft" else view), kind

        monkeypatch.setattr(check._backends, "layer_pool", smaller)
        live.begin_step()
        server.decode()
        draft.eager()
        live.end_step(server.rid_of)
        assert check.writes.launches > launched
    assert said(caplog) == ["kv_slots_in_layer_space"]
    assert re.search(r"is outside the \S+ pool of \d+ slots", caplog.text)


def test_half_of_a_split_batch_is_held_against_no_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two-batch overlap: the second half's first row is not the batch's first."""
    with armed(tmp_path, IN_GRAPHS) as live:
        server = small.serving()
        for i in range(2):
            small.admit(server, f"r{i}", small.PROMPT - (2 + i) * small.PAGE)
        server.decode()
        assert live.device is not None
        told = live.device.told.of("target", "decode", torch.zeros(1))
        assert told is not None
        told.tell(torch.tensor([7, 7]), torch.tensor([5, 5]), torch.tensor([9, 9]), None)
        as_captured(monkeypatch)
        batches, backend = [], server.runner.attn_backend
        honest = backend.init_forward_metadata

        def half(batch: Any) -> None:
            batches.append(batch)
            batch.tbo_parent_token_range = (2, 4)
            honest(batch)

        backend.init_forward_metadata = half
        live.begin_step()
        server.decode()
        live.end_step(server.rid_of)
        assert batches and live.device.launches and live.device.writes.launches and not said(caplog)
        del backend.init_forward_metadata
        live.begin_step()
        server.decode()
        live.end_step(server.rid_of)
    assert {"table_is_of_this_step", "kv_slots_in_layer_space"} <= set(said(caplog)), "a whole one is"


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ({"kv_slots_in_layer_space"}, {"batches told to the device", "device check of writes"}),
        ({"table_is_of_this_step"}, {"batches told to the device", "device check"}),
        ({"page_in_window_is_mapped"}, {"batches told to the device", "device check"}),
        ({"page_table_stays_in_pool"}, {"device check"}),
        ({"free_list_is_free"}, set()),
    ],
)
def test_what_no_armed_trap_needs_is_not_hooked(names: set[str], parts: set[str], tmp_path: Path) -> None:
    live = OnDevice([traps()[name] for name in sorted(names)], tmp_path, on_device=True)
    assert {part.name for part in live.parts()} & set(ALL_PARTS) == parts


def test_this_release_has_a_place_where_batches_are_handed_to_graphs() -> None:
    names = [name for name in current().points if name.startswith("replay.")]
    assert set(names) == set(REPLAYS) - set(current().lacks)
    hooks = [Hook(current().path(name), "before", lambda *args, **kwargs: None, observes=True) for name in names]
    with install("probe", hooks) as installation:
        assert not installation.problems()
