"""tools/matrix.py: what a run tells becomes a cell, and one that cannot run does not wipe out what is known."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from g4diag.matrix.cells import Cell

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location("matrix_tool", TOOLS / "matrix.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


def cell(standing: Any, ran: bool, why: str = "w") -> Cell:
    command, source = ("g4diag repro hybrid-wrapper", "CPU") if ran else ("", "the wheel")
    return Cell("hybrid-wrapper", "", "0.5.16", standing, ran, why, "2026-11-28", command, source)


@pytest.mark.parametrize("code", [0, 1])
def test_a_scenario_that_ran_tells_by_its_own_words(tool: ModuleType, code: int) -> None:
    out = json.dumps({"cell": {"standing": "alive", "why": "released: IndexError"}, "readings": []})
    assert tool.told(code, out, "noise\n") == ("alive", "released: IndexError")


@pytest.mark.parametrize(
    ("code", "out", "said", "why"),
    [
        (3, "", "warning\ng4diag: sglang: wanted x, found y\n", "sglang: wanted x, found y"),
        (4, "", "g4diag: hybrid-wrapper: vacuous: no step\n", "hybrid-wrapper: vacuous: no step"),
        (1, "", "g4diag: internal error: KeyError\n", "internal error: KeyError"),
        (0, '{"cell": null}', "", "exit 0, and no word"),
        (-9, "", "", "exit -9, and no word"),
        # A document of an exit code that says that nothing was shown is not believed.
        (4, '{"cell": {"standing": "cured", "why": "nothing ran"}}', "g4diag: vacuous", "vacuous"),
    ],
)
def test_what_tells_nothing_cannot_run_and_says_why(tool: ModuleType, code: int, out: str, said: str, why: str) -> None:
    assert tool.told(code, out, said) == ("cannot run", why)


def test_a_run_takes_the_place_of_what_was_read_or_ran(tool: ModuleType) -> None:
    for before in (None, cell("alive", False), cell("cured", True), cell("unknown", False)):
        assert tool.merged(before, cell("alive", True, "new")) == cell("alive", True, "new")


def test_a_scenario_that_cannot_run_leaves_what_is_known(tool: ModuleType) -> None:
    failed = cell("cannot run", True, "no such class")
    read = tool.merged(cell("alive", False, "read so"), failed)
    assert (read.standing, read.ran, read.why) == ("alive", False, "read so; not run: no such class")
    again = tool.merged(read, cell("cannot run", True, "another reason"))
    assert again.why == "read so; not run: another reason", "reasons do not pile up"
    assert tool.merged(cell("cured", True), failed) == cell("cured", True)
    for before in (None, cell("cannot run", True, "old"), cell("unknown", False)):
        assert tool.merged(before, failed) == failed


def test_a_bug_that_stands_otherwise_than_it_ran_before_is_told(tool: ModuleType) -> None:
    assert tool.differs(cell("alive", True), cell("cured", True))
    assert tool.differs(cell("alive", True), cell("cannot run", True))
    assert not tool.differs(cell("alive", True), cell("alive", True))
    assert not tool.differs(cell("alive", False), cell("cured", True)), "what was only read may be wrong"
    assert not tool.differs(None, cell("cured", True))


def test_every_release_has_a_stack_to_lie_over(tool: ModuleType) -> None:
    below = {release: tool.stack_for(release) for release in tool.cells.matrix().releases}
    assert set(below.values()) == set(tool.STACKS)
    assert below["0.5.17"] == "0.5.13" and below["0.5.18"] == "0.5.23"
    assert "surfaced-elsewhere" not in tool.on_cpu() and "trtllm-mha-swa" in tool.on_cpu()
