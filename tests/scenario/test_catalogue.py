"""`repro --all` without its processes: what each child says becomes a row, and the rows an exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from g4diag.discover import Contribution
from g4diag.report import repro_all_json, repro_all_text
from g4diag.scenario import Board, Drive, Found, Scenario, ServerState
from g4diag.scenario.catalogue import run_all
from g4diag.scenario.driving import driven
from tests.repro.conftest import silent

SCORE = {"found": [1, 1], "named": [0, 0], "silent": [2, 2], "twin": [1, 1]}


def scenario(name: str) -> Contribution:
    made = driven(lambda: Found(1, 0), name=name, symptom="", upstream="", drives=(Drive("upstream", ""),))
    return Contribution(name.replace("-", "_"), f"repro.{name}", made)


def on_gpu(name: str) -> Contribution:
    server = ServerState("faulty", "", (), "illegal-access")
    made = Scenario(name, "", "", states=(), run=lambda *_: pytest.fail("ran"), server_states=(server,))
    return Contribution(name, f"repro.{name}", made)


def board(*said: tuple[int, str, str], more: Sequence[Contribution] = ()) -> Board:
    """Of one scenario for each child's word, s0, s1 and so on, then of `more`."""
    asked: list[Sequence[str]] = []

    def child(arguments: Sequence[str]) -> tuple[int, str, str]:
        asked.append(arguments)
        return said[int(arguments[1].removeprefix("s"))]

    found = run_all([*(scenario(f"s{i}") for i in range(len(said))), *more], 2, Path("d"), silent, child)
    assert all(list(words[2:]) == ["--device", "cpu", "--json", "--dump-dir", "d"] for words in asked)
    assert len(asked) == len(said)
    return found


def document(**changes: Any) -> str:
    row = {"state": "upstream", "outcome": "silent", "as_expected": True}
    standing = {
        "cell": {"standing": "cured", "why": "upstream: silent"},
        "left_out": [{"state": "faulty", "why": "no"}],
    }
    return json.dumps({"score": SCORE, "readings": [row | changes]} | standing)


@pytest.mark.parametrize(
    ("said", "verdict", "code"),
    [
        ((0, document(), ""), "as expected", 0),
        ((1, document(as_expected=False), ""), "NOT AS EXPECTED", 1),
        ((4, "", "g4diag: s0: vacuous at upstream: nothing was checked\n"), "vacuous", 4),
        ((3, "", "g4diag: sglang: wanted 0.5.13, found none\n"), "cannot run", 3),
        ((3, "", "g4diag: s0: not there yet: wanted 'x' once in y, found z\n"), "not there yet", 0),
        ((-9, "", ""), "failed", 1),
        ((0, "not json", "a warning\n"), "failed", 1),
        ((0, "{}", ""), "failed", 1),
    ],
)
def test_what_a_child_says_is_its_row(said: tuple[int, str, str], verdict: str, code: int) -> None:
    found = board(said, (0, document(), ""))
    assert [row.verdict for row in found.rows] == [verdict, "as expected"]
    assert found.exit_code == code
    assert (found.rows[0].why != "") == (verdict != "as expected")


def test_each_row_has_its_cell() -> None:
    none = (0, document().replace('{"standing": "cured", "why": "upstream: silent"}', "null"), "")
    told = [(3, "", "g4diag: s1: no"), (4, "", "g4diag: s2: vacuous"), none, (3, "", "g4diag: s4: not there yet: old")]
    rows = board((0, document(), ""), *told, more=[on_gpu("g")])
    said = [row.cell and (row.cell.standing, row.cell.why) for row in rows.rows]
    gpu = ("cannot run", "needs a GPU: g4diag repro g --device cuda")
    assert said == [("cured", "upstream: silent"), ("cannot run", "no"), None, None, ("not there yet", "old"), gpu]
    assert [(each.state, each.why) for each in rows.rows[0].left_out] == [("faulty", "no")]


def test_one_that_is_not_as_expected_outweighs_one_that_says_nothing() -> None:
    assert board((4, "", "vacuous"), (1, document(as_expected=False), ""), (3, "", "no")).exit_code == 1


def test_what_needs_a_gpu_is_a_row_and_counts_as_nothing() -> None:
    found = board((0, document(), ""), more=[on_gpu("elsewhere")])
    assert [row.verdict for row in found.rows] == ["as expected", "needs a GPU"] and found.exit_code == 0
    assert board(more=[on_gpu("elsewhere")]).exit_code == 3, "nothing ran"


def test_a_file_that_does_not_import_is_a_failed_row() -> None:
    found = board((0, document(), ""), more=[Contribution("broken", "repro.broken", error="SyntaxError: x")])
    assert (found.rows[1].verdict, found.rows[1].why, found.exit_code) == ("failed", "SyntaxError: x", 1)


def test_the_table_and_the_document_say_the_same() -> None:
    found = board((0, document(), ""), (4, "", "g4diag: s1: vacuous: x"), more=[on_gpu("elsewhere")])
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    repro_all_text.render(found, console)
    text = console.export_text()
    assert "1/1" in text and "2/2" in text and "s1: s1: vacuous" not in text and "s1: vacuous: x" in text
    assert "cured" in text and "s0: faulty is not applicable here: no" in text
    assert "elsewhere: g4diag repro elsewhere --device cuda" in text
    assert "1 of 2 scenarios as expected" in text
    said = json.loads(repro_all_json.render(found))
    assert (said["schema"], said["version"], said["exit_code"]) == ("g4diag.repro-all", 1, 4)
    assert [row["verdict"] for row in said["scenarios"]] == ["as expected", "vacuous", "needs a GPU"]
    assert said["scenarios"][0]["cell"] == {"standing": "cured", "why": "upstream: silent"}
    assert said["scenarios"][0]["left_out"] == [{"state": "faulty", "why": "no"}]
    assert [row["cell"] and row["cell"]["standing"] for row in said["scenarios"]] == ["cured", None, "cannot run"]
    assert said["scenarios"][0]["score"] == SCORE and said["scenarios"][2]["score"] is None
