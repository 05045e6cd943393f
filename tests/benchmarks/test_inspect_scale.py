"""Many ranks as one incident: the bad one is named, and what it costs grows as the ranks do."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from g4diag.analyzers import inspect_files
from g4diag.dump.ring import TAIL
from g4diag.report.json import render

RANKS, A_NODE, BAD = 8, 4, 2


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nodes with the same pids, rings that have lost what was said first."""
    folder = tmp_path_factory.mktemp("incident")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
        scale = importlib.import_module("inspect_scale")
        scale.make_ranks(folder, scale.Sizes(RANKS, A_NODE, records=2 * TAIL, log=4000, bad=BAD))
    return folder


def test_the_bad_rank_is_named_and_no_other(incident: Path) -> None:
    scale = importlib.import_module("inspect_scale")
    sizes = scale.Sizes(RANKS, A_NODE, bad=BAD)
    inspection = inspect_files([incident])
    said = json.loads(render(inspection))
    assert scale.ranks_named(said, sizes) == ""
    assert scale.ranks_named(said, scale.Sizes(RANKS, A_NODE, bad=BAD + 1)), "another rank would be wrong"
    assert scale.ranks_named(said | {"findings": []}, sizes), "and so would no findings"
    assert not [f for f in inspection.of("provenance") if f.data.get("unread")]
    ties = [f.text.split() for f in inspection.of("provenance") if " is the recorder of " in f.text]
    assert len(ties) == RANKS
    assert all(tie[0].split("/")[0] == tie[-1].split("/")[0] for tie in ties), "a ring goes with its node's dump"
    (processes,) = [f.text for f in inspection.of("parts") if "processes" in f.text]
    # The sample log names a pid of its own.
    assert processes.startswith(f"these files are of {RANKS + 1} processes: ")


def test_cost_grows_as_the_ranks_do(incident: Path) -> None:
    inspect_files([incident / "node0"])  # what is imported and compiled once
    half, whole = calls_of([incident / "node0"]), calls_of([incident])
    assert half > 1000 and whole < 2.2 * half


def calls_of(paths: Sequence[Path]) -> int:
    """How many functions are called to inspect these: a clock would tell of the machine."""
    counted = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        inspect_files(paths)
    finally:
        sys.setprofile(before)
    return counted


def test_a_table_with_more_rows_than_a_list_may_have(tmp_path: Path) -> None:
    scale = importlib.import_module("inspect_scale")
    path = tmp_path / "rows.pt"
    scale._one_read(path, rows=4096, columns=8, page=64, pages=1 << 12, longest=4)
    inspection = inspect_files([path])
    assert scale.table_named(json.loads(render(inspection))) == "" and scale.table_named({"findings": []})
    assert any(f.data.get("table_rows") == 4096 for f in inspection.of("table_map"))
