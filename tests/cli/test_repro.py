"""`g4diag repro`: the exit codes and what a person or a script reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from g4diag.cli.main import run
from tests.releases import unlike

ROOT = Path(__file__).parents[2]


def test_list_names_the_scenario_and_its_symptom(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repro", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "scenario" and "runs on" in lines[0] and "symptom" in lines[0]
    assert [line for line in lines if re.match(r"trtllm-mha-swa +cpu, cuda +\w", line)]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["repro"], 2, "which SCENARIO"),
        (["repro", "no-such"], 2, "unknown scenario: wanted one of bigram-units, "),
        (["repro", "trtllm-mha-swo"], 2, "found 'trtllm-mha-swo'; did you mean trtllm-mha-swa?"),
        (["repro", "trtllm-mha-swa", "--state", "nope"], 2, "found 'nope'"),
        (["repro", "trtllm-mha-swa", "--device", "cpu", "--path", "eager"], 2, "--path would be ignored"),
        (["repro", "--all", "--state", "faulty"], 2, "--state would be ignored"),
        (["repro", "--all", "--interpreted"], 2, "--interpreted would be ignored"),
        (["repro", "--all", "--time-limit", "9"], 2, "--time-limit would be ignored"),
        (["repro", "evict-past-insert", "--jobs", "2"], 2, "--jobs would be ignored"),
        (["fuzz", "--profile", "ci", "--db", "x"], 2, "--db would be ignored"),
        (["doctor", "-v", "--sglang-version", "0.5.13", "--", "--tp", "1"], 2, "would be ignored"),
        (["report", "no-such-log", "--md", "new.md"], 2, "to write the report there: -o new.md"),
        (["patches", "show", "patch-ee"], 2, "unknown patch: found 'patch-ee'; did you mean patch-e? wanted one of "),
        (["minimize", "trtllm-mha-swo"], 2, "did you mean trtllm-mha-swa?"),
        (["fuzz", "--profile", "nightl", "--examples", "1"], 2, "did you mean nightly?"),
        (
            ["repro", "evict-past-insert", "--state", "nope"],
            2,
            "unknown state of evict-past-insert: wanted one of upstream",
        ),
        (["repro", "evict-past-insert", "--ratio", "0.2"], 2, "its sizes are part of it; found --ratio"),
        (["repro", "evict-past-insert", "--device", "cuda"], 2, "evict-past-insert runs on cpu only"),
        (["repro", "evict-past-insert", "--all"], 2, "--all runs every scenario: found 'evict-past-insert' too"),
        (["repro", "trtllm-mha-swa", "--page-size", "48"], 2, "16, 32 or 64"),
        (["repro", "trtllm-mha-swa", "--chunk", "0", "--requests", "1", "--state", "faulty"], 4, "never diverged"),
    ],
)
def test_a_refusal_is_one_line_and_its_exit_code(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("[1/1] ")]  # how far it is
    assert len(lines) == 1 and says in lines[0]


@pytest.mark.parametrize(("found", "says"), [(None, "found none"), ("0.5.12.post1", "found 0.5.12.post1")])
def test_without_an_sglang_that_is_known_it_cannot_run(
    found: str | None, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlike(monkeypatch, found)
    assert run(["repro", "trtllm-mha-swa"]) == 3
    assert says in capsys.readouterr().err
    monkeypatch.setattr("g4diag.scenario.catalogue.run_all", lambda *_: pytest.fail("asked seventeen times"))
    assert run(["repro", "--all", "--json"]) == 3
    captured = capsys.readouterr()
    assert captured.out == "" and says in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("trtllm-mha-swa", "--dump-dir"),
        ("xqa-strided-query", "--dump-dir"),
        ("--all", "--dump-dir"),
        ("xqa-strided-query", "--device", "cuda", "--out"),
    ],
)
def test_a_folder_that_cannot_be_written_is_2_before_anything_is_run(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for run_it in (
        "g4diag.scenario.driving.run_drives",
        "g4diag.scenario.catalogue.run_all",
        "g4diag.scenario.on_server.run_on_server",
    ):
        monkeypatch.setattr(run_it, lambda *_: pytest.fail("run"))
    monkeypatch.setattr("g4diag.scenario.on_cpu.run_on_cpu", lambda *_, **__: pytest.fail("run"))
    assert run(["repro", *arguments, str(tmp_path / "file" / "x")]) == 2
    assert capsys.readouterr() == ("", f"g4diag: {tmp_path}/file/x: cannot be written: Not a directory\n")


def test_dumps_go_where_the_variable_says_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("G4DIAG_DUMP_DIR", "/proc/nope")
    assert run(["repro", "trtllm-mha-swa"]) == 2 and "/proc/nope: cannot be written" in capsys.readouterr().err
    monkeypatch.setenv("G4DIAG_DUMP_DIR", str(tmp_path / "told"))
    drive = ["repro", "table-width-draft-tokens", "--state", "upstream", "--state", "cure"]
    assert run(drive) == 0
    assert run(["repro", "trtllm-mha-swa", "--state", "faulty"]) == 0
    (folder,) = tmp_path.iterdir()
    names = {path.name for path in folder.iterdir()}
    assert names == {"table-width-draft-tokens-upstream.pt", "trtllm-mha-swa-faulty-seed0.pt"}
    assert run([*drive, "--dump-dir", "other"]) == 0
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["table-width-draft-tokens-upstream.pt"]


def test_json_is_one_versioned_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["repro", "trtllm-mha-swa", "--json", "--state", "faulty", "--state", "patch-e", "--dump-dir"]
    assert run([*arguments, str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["version"], document["seed"]) == ("g4diag.repro", 1, 0)
    assert document["faults_reintroduced"] == ["faulty-rule"]
    assert [row["state"] for row in document["readings"]] == ["faulty", "faulty", "patch-e", "patch-e"]
    assert document["readings"][0]["out_of_range"] > 0 and document["readings"][2]["relative_error"] == 0.0
    assert document["cell"] is None and document["left_out"] == [], "the release as it is was not run"
    assert Path(document["dump"]).parent == tmp_path


def test_a_kernel_that_computes_ids_says_the_same_interpreted_and_in_torch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from g4diag.stack.drive import allocation_kernels

    said, launched = {}, {}
    for way in ("torch", "triton, interpreted"):
        ways: list[bool] = []
        with pytest.MonkeyPatch.context() as patch:
            launch = allocation_kernels.Switch.__getitem__
            seen = lambda switch, grid: (ways.append(allocation_kernels.is_interpreted()), launch(switch, grid))[1]  # noqa: E731, B023
            patch.setattr(allocation_kernels.Switch, "__getitem__", seen)
            more = [] if way == "torch" else ["--interpreted"]
            folder = str(tmp_path / way)
            arguments = ["repro", "trtllm-mha-swa", "--json", "--state", "faulty", "--dump-dir", folder, *more]
            assert run(arguments) == 0
        document = json.loads(capsys.readouterr().out)
        assert document.pop("index_kernels") == way
        said[way] = {key: value for key, value in document.items() if key not in ("seconds", "dump")}
        launched[way] = ways
    assert said["torch"] == said["triton, interpreted"] and said["torch"]["readings"][0]["out_of_range"] > 0
    assert launched["torch"] and not any(launched["torch"])
    assert len(launched["torch"]) == len(launched["triton, interpreted"]) and all(launched["triton, interpreted"])


def test_a_drive_is_shown_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["repro", "table-width-draft-tokens", "--dump-dir", str(tmp_path)]
    assert run(arguments) == 0
    text = capsys.readouterr().out
    assert "129 keys, 9 pages, a table of 8 columns" in text and "4 states, all as expected" in text
    assert "here: alive (upstream: table_is_wide_enough; 129 keys" in text
    assert run([*arguments, "--json", "--state", "cure", "--state", "upstream"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["version"]) == ("g4diag.repro-drive", 1)
    assert [row["outcome"] for row in document["readings"]] == ["table_is_wide_enough", "silent"]
    assert [row["as_released"] for row in document["readings"]] == [True, False]
    assert document["cell"]["standing"] == "alive" and document["left_out"] == []
    assert document["score"] == {"found": [1, 1], "named": [1, 1], "silent": [1, 1], "twin": [0, 0]}
    assert Path(document["dumps"]["upstream"]).parent == tmp_path


def test_all_of_them_print_one_table_and_leave_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from g4diag.scenario import Board, Row, Score

    score = Score((1, 1), (1, 1), (2, 2), (0, 0))
    rows = (Row("a", "as expected", 8.0, score), Row("b", "vacuous", 7.0, why="no view came to the trap"))
    monkeypatch.setattr("g4diag.scenario.catalogue.run_all", lambda *_: Board(rows, {}, 9.0))
    assert run(["repro", "--all"]) == 4
    assert "1 of 2 scenarios as expected, 9 s" in capsys.readouterr().out
    assert run(["repro", "--all", "--json"]) == 4
    assert [row["verdict"] for row in json.loads(capsys.readouterr().out)["scenarios"]] == ["as expected", "vacuous"]


def test_a_state_that_did_not_behave_is_exit_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from g4diag.scenario import Outcome
    from repro import trtllm_mha_swa

    honest = trtllm_mha_swa.SCENARIO.run

    def surprised(options: object, progress: object) -> Outcome:
        outcome = honest(options, progress)  # type: ignore[arg-type]
        return replace(outcome, readings=tuple(replace(row, expected="wrong") for row in outcome.readings))

    monkeypatch.setattr(trtllm_mha_swa, "SCENARIO", replace(trtllm_mha_swa.SCENARIO, run=surprised))
    assert run(["repro", "trtllm-mha-swa", "--state", "upstream", "--dump-dir", str(tmp_path)]) == 1
    assert "NOT AS EXPECTED: upstream/eager: wanted wrong, found equal" in capsys.readouterr().out


def test_the_scenario_file_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, "repro/trtllm_mha_swa.py", "--state", "nope"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        "g4diag: unknown state of trtllm-mha-swa: wanted one of upstream, faulty, clamp, patch-e-views, patch-e,"
        " twin-upstream, twin-faulty, twin-patch-e, twin-allocator, found 'nope'\n"
    )
