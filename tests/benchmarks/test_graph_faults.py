"""The benchmark of faults in graphs: each flag breaks what it says, on the CPU-driven stack; without one nothing is."""

from __future__ import annotations

import importlib
from pathlib import Path

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
        {"fault": "healthy", "seen": {}, "said": []},
        {"fault": "undivided", "begun": True, "batch": 8},
    ]
    line = "g4diag violation trap={} severity=error seen=1"
    said = [line.format("of_another"), "g4faults begins: undivided", line.format("page_table_stays_in_pool")]
    healthy, last = graph_faults.summary(rows, "\n".join(said))
    assert healthy == {"fault": "healthy", "batch": 8, "ended": False, "traps": {}, "said": []}
    assert last["ended"] and list(last["traps"]) == ["page_table_stays_in_pool"]
