"""The benchmark of faults in graphs: each flag breaks what it says, on the CPU-driven stack; without one nothing is."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from g4diag.hooks.anchors import Anchor, pin
from g4diag.hooks.install import Hook, install
from g4diag.stack.live.device_check import IN_GRAPHS, ON_DEVICE
from tests.stack.live.test_device_graphs import armed, drafting, replayed, said

SEEN = {
    "stale-lengths-replayed": "table_is_of_this_step",
    "another-row-in-table": "page_table_in_layer_space",
    "translated-twice": "page_table_in_layer_space",
    "undivided": "page_table_stays_in_pool",
    "slots-for-pages": "page_table_stays_in_pool",
    "another-row-in-batch": "request_row_is_of_its_request",
    "runner-not-filled": "table_is_of_this_step",
    "swa-table-of-others": "page_table_in_layer_space",
}


def test_every_flag_is_expected_here() -> None:
    plugin = importlib.import_module("graph_faults_plugin")
    everything = {*plugin.FLAGS, *plugin.WRITES, *plugin.STATE}
    assert set(SEEN) == set(plugin.FLAGS) and set(plugin.ALONE) <= everything
    assert {"healthy", *everything} == {*plugin.names(), *plugin.ALONE} and plugin.names()[0] == "healthy"


def test_slots_are_changed_only_where_that_is_on() -> None:
    slots = importlib.import_module("graph_faults_plugin").Slots()
    for on, expected in (("", [0, 5]), ("swa-write-step-old", [0, 4]), ("negative-write", [-1, -1])):
        tensor = torch.tensor([0, 5])
        slots.on = on
        slots.after(tensor, None)
        assert tensor.tolist() == expected
    slots.after(None, None)
    assert slots.filled == 3


@pytest.mark.parametrize("name", ["healthy", *SEEN])
def test_a_flag_breaks_what_it_says(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin = importlib.import_module("graph_faults_plugin")
    if not pin(Anchor(plugin.BACKEND, "def init_forward_metadata_in_graph(")).count:
        pytest.skip("this release builds a graph's metadata outside of it")
    flags = plugin.Flags()
    hook = Hook(f"{plugin.BACKEND}.init_forward_metadata_in_graph", "around", flags.around)
    with install("faults", [hook]), armed(tmp_path, IN_GRAPHS | ON_DEVICE) as live:
        draft = drafting()
        replayed(live, draft)
        assert flags.captured and not said(caplog), "recorded, and silent"
        if name != "healthy":
            flags.on(name, 1)
        replayed(live, draft)
    assert (SEEN[name] in said(caplog)) if name != "healthy" else not said(caplog)


def test_summary_has_a_row_a_fault_and_what_was_said_last_of_one_that_ended_the_server() -> None:
    graph_faults = importlib.import_module("graph_faults")
    rows = [
        {"fault": "healthy", "begun": True, "batch": 8},
        {"fault": "healthy", "seen": {}, "said": [], "graphs": 3},
        {"fault": "undivided", "begun": True, "batch": 8},
    ]
    line = "g4diag violation trap={} severity=error seen=1"
    said = [line.format("of_another"), "g4faults begins: undivided", line.format("page_table_stays_in_pool")]
    healthy, last = graph_faults.summary(rows, "\n".join(said))
    assert healthy == {"fault": "healthy", "batch": 8, "ended": False, "traps": {}, "said": [], "graphs": 3}
    assert last["ended"] and list(last["traps"]) == ["page_table_stays_in_pool"]


VIEW = "sglang.srt.model_executor.runner.decode_cuda_graph_runner"
IN_BUFFERS = {
    "lengths": "table_is_of_this_step",
    "rows": "request_row_is_of_its_request",
    "slots": "kv_slots_in_layer_space",
}


@contextmanager
def spoiling(place: str) -> Iterator[Any]:
    """That place's hook, with nothing on; skipped where this release lacks it, or hands on others."""
    module = importlib.import_module("graph_faults_buffers")
    path, _, name = module.PLACES[place].target.rpartition(".")
    if not pin(Anchor(path, f"def {name}(")).count or not pin(Anchor(VIEW, "def build_replay_fb_view(")).count:
        pytest.skip("this release has no such function, or its view does not hold the static buffers")
    buffers = module.Buffers(place)
    with install("faults", [Hook(module.PLACES[place].target, "around", buffers.around)]):
        yield buffers


@pytest.mark.parametrize("kind", ["healthy", *IN_BUFFERS])
def test_a_fault_in_a_draft_extends_buffers_breaks_what_it_says(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.stack.live import test_draft_extend_graphs as extends

    with spoiling("draft-extend") as buffers, armed(tmp_path, extends.JUDGED) as live:
        draft = extends.extending()
        before = buffers.filled
        extends.replayed(live, draft)
        assert buffers.filled == before + 1 and not said(caplog), "one of a capture is none"
        back = buffers.put("" if kind == "healthy" else f"draft-extend-{kind}")
        extends.replayed(live, draft)
        back()
        assert said(caplog) == ([] if kind == "healthy" else [IN_BUFFERS[kind]])
        caplog.clear()
        extends.grown(draft)
        extends.replayed(live, draft)
        assert not said(caplog) and buffers.filled == before + 3, "taken back"


@pytest.mark.parametrize("kind", ["healthy", "slots"])
def test_a_fault_in_the_slots_of_drafting_steps_breaks_what_it_says(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.stack.live import test_draft_step_graphs as steps

    with spoiling("draft-steps") as buffers, armed(tmp_path, steps.JUDGED) as live:
        draft = steps.drafting()
        assert buffers.filled == 0, "a capture is none"
        steps.replayed(live, draft)
        assert buffers.filled == 1 and not said(caplog)
        back = buffers.put("" if kind == "healthy" else f"draft-steps-{kind}")
        steps.replayed(live, draft)
        back()
        assert said(caplog) == ([] if kind == "healthy" else [IN_BUFFERS[kind]])
        caplog.clear()
        steps.grown(draft)
        steps.replayed(live, draft)
        assert not said(caplog) and buffers.filled == 3, "taken back"


@pytest.mark.parametrize("kind", ["healthy", *IN_BUFFERS])
def test_a_fault_in_a_whole_prefills_buffers_breaks_what_it_says(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sglang.srt.model_executor.runner_backend.full_cuda_graph_backend")
    from tests.stack.live import test_prefill_graphs as prefills

    with spoiling("whole-prefill") as buffers, armed(tmp_path, prefills.JUDGED) as live:
        server, _ = prefills.prefilling(monkeypatch)
        prefills.admitted(live, server, "r0", 100)
        assert buffers.filled == 1 and not said(caplog)
        back = buffers.put("" if kind == "healthy" else f"whole-prefill-{kind}")
        prefills.admitted(live, server, "r1", 100)
        back()
    assert buffers.filled == 2 and (said(caplog) == [] if kind == "healthy" else IN_BUFFERS[kind] in said(caplog))


def test_slots_of_an_mla_target_are_changed_in_its_runners_buffers() -> None:
    buffers = importlib.import_module("graph_faults_buffers").Buffers("mla")
    runner = SimpleNamespace(
        buffers=SimpleNamespace(
            seq_lens=torch.tensor([4, 9, 1]),
            req_pool_indices=torch.tensor([2, 1, 0]),
            out_cache_loc=torch.tensor([70, 1, 0, 0]),
        )
    )
    batch = SimpleNamespace(batch_size=2, out_cache_loc=torch.zeros(2))
    for name, expected in (("", [70, 1, 0, 0]), ("mla-slots", [69, 1, 0, 0])):
        buffers.on = name
        assert buffers.around(lambda *args: args, runner, batch) == (runner, batch)
        assert runner.buffers.out_cache_loc.tolist() == expected
    assert buffers.filled == 2 and runner.buffers.seq_lens.tolist() == [4, 9, 1]


def test_each_place_has_a_server_that_the_soak_knows() -> None:
    graph_faults = importlib.import_module("graph_faults")
    places = importlib.import_module("graph_faults_buffers").PLACES
    kinds = importlib.import_module("soak_servers").KINDS
    assert set(graph_faults.SERVERS) == set(places) and set(graph_faults.SERVERS.values()) <= set(kinds)
    assert graph_faults.is_named_right("mla-slots", {"kv_slots_in_layer_space": 3})
    assert not graph_faults.is_named_right("mla-slots", {"kv_slots_in_layer_space": 3, "table_is_of_this_step": 1})
    assert graph_faults.is_named_right("healthy", {}) and not graph_faults.is_named_right("mla-slots", {})
    assert ("mla", "mla-slots") in graph_faults.wanted(["mla"]) and ("others", "healthy") in graph_faults.wanted([""])


def test_a_soak_says_which_traps_judged_nothing(tmp_path: Path) -> None:
    """Of the real ones, armed."""
    clock, soak = importlib.import_module("step_clock"), importlib.import_module("soak")
    with armed(tmp_path, frozenset({"table_is_of_this_step", "slot_has_one_owner"})) as live:
        clock.write_judged(tmp_path / "judged.json", [live])
        before = json.loads((tmp_path / "judged.json").read_text())
        assert "slot_has_one_owner" in before and not any(before.values())
        assert soak.never_judged([before]) == sorted(before) and soak.never_judged([]) == ["all of them"]
        live.tally.checks["slot_has_one_owner", "", ""] += 3
        clock.write_judged(tmp_path / "judged.json", [live])
        after = json.loads((tmp_path / "judged.json").read_text())
        assert after["slot_has_one_owner"] == 3 and "slot_has_one_owner" not in soak.never_judged([before, after])
        assert soak.judged_nothing({"a": before, "b": after, "c": {}}) == ["a", "c"]


def test_the_other_models_are_written_and_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    soak = importlib.import_module("soak_servers")
    models = soak.Models(tmp_path)
    for name, kind in soak.KINDS.items():
        engine = kind(models, "")
        assert (Path(engine["model_path"]) / "config.json").exists(), name
        assert ("speculative_algorithm" in engine) == (name not in ("whole-prefill", "mla")), name
