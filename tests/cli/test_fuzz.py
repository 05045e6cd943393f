"""`g4diag fuzz`: the exit codes and what a person or a script reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.test_inspect import run

pytest.importorskip("sglang")


def test_list_names_the_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "fuzz", "--list")
    assert code == 0 and "swa-allocator\tSWATokenToKVPoolAllocator" in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no-such"], 2, "unknown machine: wanted one of"),
        (["--minutes", "1", "--examples", "3"], 2, "found both"),
        (["--examples", "0"], 2, "--examples: wanted a number above 0, found 0"),
        (["--minutes", "0"], 2, "--minutes: wanted a number above 0, found 0.0"),
        (["--minutes", "nan"], 2, "--minutes: wanted a number above 0, found nan"),
        (["--fault", "patch-e"], 2, "unknown fault: wanted one of"),
        (["--profile", "weekly"], 2, "unknown profile"),
        (["--dump-dir", "/proc/nope"], 2, "/proc/nope: cannot be written"),
    ],
)
def test_a_refusal_is_one_line_and_its_exit_code(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, "fuzz", *arguments)
    assert (found, out) == (code, "") and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("hypothesis", [], "in a checkout of g4diag: pip install '.[fuzz]'"),
        ("redis", ["--db", "redis://nowhere"], "wanted the package redis"),
    ],
)
def test_what_is_missing_is_exit_3(
    module: str,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run(capsys, "fuzz", *arguments)
    assert code == 3 and says in err


def test_a_fault_is_exit_1_with_program_dump_and_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["swa-allocator", "--fault", "allocator-bound-off-by-one", "--examples", "20", "--json"]
    code, out, _ = run(capsys, "fuzz", *arguments, "--dump-dir", str(tmp_path))
    document = json.loads(out)
    failure = document["runs"][0]["failure"]
    assert (code, document["schema"], document["exit_code"]) == (1, "g4diag.fuzz", 1)
    assert failure["claim"] == "free_list_is_free" and failure["length"] <= 4
    assert document["runs"][0]["faults_reintroduced"] == ["allocator-bound-off-by-one"]
    assert {Path(failure["dump"]).parent, Path(failure["test"]).parent} == {tmp_path}
    assert document["database"] == ""


def test_a_run_too_short_to_reach_its_goals_is_exit_4(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "fuzz", "swa-allocator", "--examples", "2", "--profile", "ci")
    assert code == 4 and "VACUOUS: swa-allocator: never reached " in out
