"""Live traps on the CPU-driven stack: one line and one dump where the state is faulty, silence where it is healthy."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sglang")

from g4diag import guard
from g4diag.analyzers import inspect_file
from g4diag.dump.reader import read_dump
from g4diag.dump.server_log import read_log
from g4diag.model import (
    Allocation,
    IndexSpace,
    KVSlots,
    KVWrite,
    LayerKind,
    MappingUpdate,
    QueryRows,
    RowOwners,
    View,
    Windows,
)
from g4diag.patches import applying
from g4diag.settings import Selection
from g4diag.stack.live import arming, selection
from g4diag.stack.live import sink as live
from g4diag.stack.live.log_line import log_line
from tests import samples
from tests.traps import calls

ALL = tuple(sorted(selection.traps()))
READS = "page_table_stays_in_pool"
FULL_SLOTS = KVSlots(
    *("target", "extend", "eager", "TRTLLMHAAttnBackend", 1, LayerKind.SWA, samples.swa_pool()),
    slots_space=IndexSpace.FULL_SLOT,
    tokens=4,
)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Violation lines logged so far."""

    class Lines(list[str]):
        def now(self) -> list[str]:
            return [r.getMessage() for r in caplog.records if r.getMessage().startswith("g4diag violation ")]

    with caplog.at_level(logging.WARNING):
        yield Lines()


@contextmanager
def server(*patches: str) -> Iterator[None]:
    """A run of the CPU-driven server: every request is admitted, decoded and drafted for, the oldest leaving."""
    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.frozen_draft import FrozenDraft
    from g4diag.stack.drive.reference import PagedAttention
    from g4diag.stack.drive.serving import Geometry, Serving

    kernel = PagedAttention()
    with applying.applied(patches), cpu.attention_kernels(kernel.decode, kernel.prefill):
        serving = Serving(Geometry(), 0)
        draft = FrozenDraft(serving)
        for rid, ids in serving.prompts():
            while not serving.admit(rid, ids):
                serving.release(serving.running.reqs[0])
            draft.eager()
            serving.decode()
            if len(serving.running.reqs) >= serving.geometry.live:
                serving.release(serving.running.reqs[0])
        yield


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Lines and the folder of dumps of a run in the faulty state, every trap armed."""
    folder, said = tmp_path_factory.mktemp("faulty"), logging.handlers.BufferingHandler(10_000)
    logger = logging.getLogger("g4diag")
    logger.addHandler(said)
    try:
        with arming.armed(ALL, folder), server("faulty-rule"):
            return [record.getMessage() for record in said.buffer], folder
    finally:
        logger.removeHandler(said)


def test_a_faulty_state_is_one_line_at_first_and_one_dump_that_inspect_names(faulty: tuple[list[str], Path]) -> None:
    found = [line for line in faulty[0] if line.startswith("g4diag violation ") and f" trap={READS} " in line]
    (dump,) = faulty[1].glob(f"live-{READS}-*")
    first = found[0]
    assert f"trap={READS} " in first and f"dump={dump} " in first and " seen=1 " in first
    for said in ("worker=draft", "phase=draft_decode", "path=eager", "kind=swa", "wanted_space=SWA_page"):
        assert said in first, first
    assert all(" dump=" not in line for line in found[1:]), "one dump"
    inspection = inspect_file(dump)
    assert inspection.outcome.exit_code == 1
    assert inspection.of("verdict")[0].text.startswith(f"ERROR: g4diag: {READS}: draft_decode handed layer ")


def test_a_healthy_server_is_silent_with_every_trap_armed(lines, tmp_path: Path) -> None:
    with arming.armed(ALL, tmp_path), server():
        assert not lines.now() and not list(tmp_path.iterdir())


def test_the_cause_is_dumped_with_the_read(faulty: tuple[list[str], Path]) -> None:
    incident = read_dump(next(faulty[1].glob(f"live-{READS}-error-pid{os.getpid()}-*.pt")))
    assert incident.swaps and incident.manifest["faults"] == ["faulty-rule"] and len(incident.pools) == 2


def test_a_dump_holds_what_the_allocator_did_just_before(tmp_path: Path) -> None:
    sink = live.Live([selection.traps()[READS]], tmp_path)
    huge = MappingUpdate("free", *[np.zeros(1 << 15, dtype=np.int64)] * 3)
    for view in (*[calls.release(8, live=(2,))] * 20, huge, calls.allocation(12), samples.faulty_read()):
        sink.sink(view)
    (dump,) = tmp_path.iterdir()
    incident = read_dump(dump)
    assert (len(incident.releases), len(incident.allocations), len(incident.reads)) == (11, 1, 1)
    assert not incident.mapping_updates, "one too large would push out the read"


def test_a_dump_says_what_its_server_was(faulty: tuple[list[str], Path]) -> None:
    told = read_dump(next(faulty[1].glob(f"live-{READS}-error-pid{os.getpid()}-*.pt"))).context["server"]
    assert told["flags"]["speculative_algorithm"] == "FROZEN_KV_MTP" and told["flags"]["page_size"] == 16
    assert told["target"]["backend"] == told["draft"]["backend"] == "TRTLLMHAAttnBackend"
    assert told["draft"]["frozen_kv"] and not told["target"]["frozen_kv"]


def test_lines_come_at_a_growing_interval(lines, tmp_path: Path) -> None:
    sink = live.Live([selection.traps()[READS]], tmp_path)
    for _ in range(250):
        sink.sink(samples.faulty_read())
    assert [line.split(" seen=")[1].split()[0] for line in lines.now()] == ["1", "10", "100"]
    assert len(list(tmp_path.iterdir())) == 1 and sink.seen[READS, "error"] == 250


def test_a_line_is_key_value_and_greppable(tmp_path: Path) -> None:
    (violation,) = selection.traps()[READS].judge(samples.faulty_read())
    line = log_line(violation, 1, tmp_path / "x.pt")
    head, _, summary = line.partition(" summary=")
    assert head.startswith("g4diag violation trap=page_table_stays_in_pool severity=error ") and summary[0] == '"'
    pairs = dict(part.split("=", 1) for part in head.split()[2:])
    assert (pairs["layer"], pairs["value"], pairs["bound"], pairs["past"]) == ("4", "188", "154", "35")


def test_a_line_is_one_json_object_on_request(lines, tmp_path: Path) -> None:
    live.Live([selection.traps()[READS]], tmp_path, log="json").sink(samples.faulty_read())
    (line,) = lines.now()
    told = json.loads(line.removeprefix("g4diag violation "))
    assert (told["trap"], told["layer"], told["value"], told["bound"], told["seen"]) == (READS, 4, 188, 154, 1)
    assert Path(told["dump"]).exists() and told["summary"]
    said = f"[2026-11-22 10:00:00 TP1] {line}\n".encode()
    found = read_log(io.BytesIO(said), len(said), "server.log")
    assert found is not None and [event.kind for event in found.log] == ["violation"]


@pytest.mark.parametrize("why", ["a trap that raises", "a disk that refuses"])
def test_nothing_of_ours_reaches_the_server(why: str, lines, tmp_path: Path) -> None:
    guard.set_raising(False)
    trap = selection.traps()[READS]
    (tmp_path / "file").write_text("")

    def broken(view):
        raise ZeroDivisionError

    sink = live.Live([replace(trap, judge=broken)] if "trap" in why else [trap], tmp_path / "file")
    sink.sink(samples.faulty_read())
    assert len(lines.now()) == ("disk" in why)


def test_with_no_trap_there_is_no_hook() -> None:
    assert live.Live([], None).hooks() == [] and arming.armed([], None).targets == ()


@pytest.mark.parametrize(
    ("trap", "wanted", "unwanted"),
    [
        ("slot_inside_allocator", "allocator", "trtllm_mha_backend"),
        (READS, "_get_layer_page_table", "allocator"),
        ("swa_state_follows_pool", "frozen_kv_target_view", "_get_layer_page_table"),
        ("mapping_follows_allocation", "free_swa", "trtllm_mha_backend"),
        ("slot_has_one_owner", "restore_state|_release_page_ids", "free_swa"),
        ("draft_writes_no_kv", "set_kv_buffer", "allocator"),
        ("mapping_is_what_was_handed_out", "set_full_to_swa_mapping", "ReqToTokenPool"),
        ("request_row_is_of_its_request", "ReqToTokenPool", "allocator"),
        ("window_is_the_models", "_get_layer_page_table", "allocator"),
        ("kv_slots_in_layer_space", "fused_fp8_set_kv_buffer|fused_fp8_qkv_kv_cache", "_get_layer_page_table"),
        ("query_rows_are_packed", "trtllm_batch_decode_with_kv_cache", "allocator"),
    ],
)
def test_only_the_probes_it_needs(trap: str, wanted: str, unwanted: str) -> None:
    targets = [hook.target for hook in live.Live([selection.traps()[trap]], None).hooks()]
    assert any(name in target for name in wanted.split("|") for target in targets)
    assert not any(unwanted in target for target in targets)


def allocator(page_size: int):
    import torch
    from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator
    from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator

    if page_size == 1:
        return TokenToKVPoolAllocator(64, torch.float32, "cpu", None, False)
    return PagedTokenToKVPoolAllocator(64, page_size, torch.float32, "cpu", None, False)


@pytest.mark.parametrize("page_size", [1, 16])
def test_every_slot_of_an_allocator_is_legal_to_the_last_page(page_size: int, lines, tmp_path: Path) -> None:
    with arming.armed(["slot_inside_allocator"], tmp_path):
        pool = allocator(page_size)
        assert pool.alloc(64) is not None and pool.alloc(16) is None
        assert not lines.now()
        pool.clear()
        pool.free_pages[0] = 64 // page_size + 1
        pool.alloc(16)
    (line,) = lines.now()
    assert f" value={64 + page_size} " in line and f" bound={64 + page_size} " in line and " phase=alloc " in line
    (dump,) = tmp_path.iterdir()
    assert inspect_file(dump).outcome.exit_code == 1


def test_the_sub_allocators_of_a_hybrid_server_are_told_apart(healthy_views: tuple[View, ...]) -> None:
    views = [view for view in healthy_views if isinstance(view, Allocation)]
    assert {view.pool.name for view in views} == {"full", "swa"}
    assert {view.call for view in views} >= {"alloc_extend", "alloc_decode"}
    for view in views:
        assert view.slots_N.dtype == np.int64 and view.slots_N.max() < view.pool.num_pages * view.pool.page_size


@pytest.mark.parametrize(
    ("trap", "view"),
    [
        ("slot_has_one_owner", calls.allocation(12, 12)),
        ("page_is_handed_out_whole", calls.allocation(13)),
        ("free_of_live_only", calls.release(12, live=())),
        ("free_list_is_free", calls.free_list(1, 1)),
        ("mapping_follows_allocation", MappingUpdate("free", *map(calls.int64, (64, 0, 9)))),
        ("draft_writes_no_kv", KVWrite("target_kv_pool_view", "target:SWAKVPool", 4, 3)),
        ("kv_slots_in_layer_space", FULL_SLOTS),
        ("query_rows_are_packed", QueryRows("draft", "draft_decode", "graph", "TRTLLMHAAttnBackend", 4, 8, 2048, 3072)),
        ("table_is_wide_enough", samples.healthy_read(batch_rows=2)),
        ("table_is_of_this_step", samples.healthy_read(batch_lens_B=np.array([1]))),
        (
            "mapping_is_what_was_handed_out",
            samples.healthy_read(handed_out_BP=samples.mapping().swa_pages(samples.full_pages())[None] + 1),
        ),
        (
            "request_row_is_of_its_request",
            samples.healthy_read(row_owners=RowOwners(("r8",), *(calls.int64(2),) * 2, ("r7",), calls.int64(1))),
        ),
        ("window_is_the_models", samples.healthy_read(windows=Windows(127, 127, 127))),
        ("page_size_is_the_pools", samples.healthy_read(allocator_page_size=16)),
    ],
)
def test_whatever_is_found_is_a_line_and_a_dump_that_inspect_names(
    trap: str, view: View, lines, tmp_path: Path
) -> None:
    live.Live([selection.traps()[trap]], tmp_path).sink(view)
    (line,), (dump,) = lines.now(), tmp_path.iterdir()
    assert f" trap={trap} " in line
    inspection = inspect_file(dump)
    assert inspection.outcome.exit_code == 1 and f" {trap}: " in inspection.of("verdict")[0].text


def test_a_group_arms_its_traps_and_is_silent_on_a_healthy_server(
    lines, healthy_views: tuple[View, ...], tmp_path: Path
) -> None:
    names = selection.selected_traps(Selection(names=("allocator", "swa-state", "page-table")))
    with arming.armed(names, tmp_path) as armed:
        assert len(names) >= 10 and len(armed.targets) >= 10
    sink = live.Live([selection.traps()[name] for name in names], tmp_path)
    for view in healthy_views:
        sink.sink(view)
    assert not lines.now()
    sink.sink(samples.faulty_read())
    assert lines.now()


def test_pools_on_the_device_are_left_alone_while_a_graph_is_captured(
    lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = live.Live([selection.traps()["query_rows_are_packed"]], tmp_path)
    monkeypatch.setattr(live, "is_capturing", lambda: True)
    monkeypatch.setattr(sink._backends, "pools", lambda: pytest.fail("a copy to the host ends the capture"))
    sink.sink(QueryRows("target", "decode", "graph", "TRTLLMHAAttnBackend", 0, 2, 32, 64))
    assert len(lines.now()) == len(list(tmp_path.iterdir())) == 1
