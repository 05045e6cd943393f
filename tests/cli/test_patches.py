"""`g4diag patches`: every file is a row, faults are marked, verifying looks at the targets."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from g4diag.cli import main
from g4diag.cli.contract import completing
from g4diag.discover import Contribution
from g4diag.doctor import series
from g4diag.model.doctor import VerifyRow
from g4diag.report import patches_text
from tests.cli.test_inspect import run, without_the_stack

FILES = sorted(
    path.stem
    for path in (Path(main.__file__).parents[1] / "patches").glob("*.py")
    if "\nPATCH = Patch(" in path.read_text()
)


def test_every_file_of_the_series_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "patches", "--json")
    found = json.loads(out)
    assert (code, err, found["schema"], found["version"]) == (0, "", "g4diag.patches", 1)
    assert [row["name"].replace("-", "_") for row in found["patches"]] == FILES
    assert {"faulty-rule", "clamp"} <= set(found["faults"])
    assert not any(row["in_all"] for row in found["patches"] if row["kind"] == "fault")


def test_faults_are_marked_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "patches", "list")
    assert code == 0 and out.count("FAULT ") >= 2 and "FAULTS put a bug back on purpose" in out
    assert run(capsys, "patches", "show", "clamp")[1].startswith("FAULT: clamp puts a bug back on purpose")


def test_show_is_the_whole_case(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "patches", "show", "patch-e")
    assert code == 0 and not out.startswith("FAULT")
    for said in ("status  ", "why  ", "changes  ", "upstream  ", "remove when  ", "#27491"):
        assert said in out
    assert json.loads(run(capsys, "patches", "show", "patch-e", "--json")[1])["patches"][0]["name"] == "patch-e"


def test_show_without_a_name_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "wanted a NAME, found none" in run(capsys, "patches", "show")[2]


@pytest.mark.parametrize(
    "arguments", [("show",), ("show", "nonsense"), ("list", "clamp"), ("nonsense",), ("verify", "nonsense")]
)
def test_usage_is_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "patches", *arguments)
    assert code == 2 and not out and err


def test_a_file_that_does_not_import_is_a_row_and_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(series, "contributions", lambda *_: [Contribution("worse", "x", error="ImportError: y")])
    code, out, _ = run(capsys, "patches")
    assert code == 1 and "worse" in out and "broken" in out and "ImportError: y" in out


WITHOUT_METADATA = """
import sys
from g4diag.hooks import versions
versions.metadata.version = lambda name: (_ for _ in ()).throw(versions.metadata.PackageNotFoundError(name))
from g4diag.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def not_installed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_METADATA, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_sglang_the_list_stands_and_verify_is_3() -> None:
    assert without_the_stack("patches").returncode == 0
    done = not_installed("patches", "verify")
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and not done.stdout
    done = not_installed("patches", "--json")
    assert done.returncode == 0
    assert {row["found"] for row in json.loads(done.stdout)["patches"]} == {"no sglang"}


def test_verify_changes_the_targets_and_puts_them_back(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sglang")
    code, out, _ = run(capsys, "patches", "verify", "patch-e", "clamp", "--json")
    found = json.loads(out)
    assert (code, found["schema"], found["version"]) == (0, "g4diag.patches.verify", 1)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["patch-e"]["verified"] and len(rows["patch-e"]["changed"]) == 3
    assert rows["clamp"]["kind"] == "fault" and rows["clamp"]["changed"]
    assert "[FAULT] clamp" in run(capsys, "patches", "verify", "clamp")[1]


def test_verify_takes_every_applicable_cure_and_then_all_together(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sglang")
    code, out, _ = run(capsys, "patches", "verify", "--json")
    found = json.loads(out)
    rows, skipped = found["rows"], found["skipped"]
    assert code == 0, [row for row in rows if not row["verified"]]
    assert {row["kind"] for row in rows} == {"cure"} and rows[-1]["name"] == "all"
    names = [row["name"].replace("-", "_") for row in (*rows[:-1], *skipped)]
    assert sorted(names) == FILES, "each is verified or skipped"
    whys = {(row["kind"], row["why"]) for row in skipped}
    upstream_row = ("cure", "upstream, nothing to apply")
    assert whys - {("cure", "not for this release")} == {upstream_row, ("fault", "faults, by name only")}
    # Those that `patches list` calls upstream, one word in both: some still go on by name, for the fault they cure.
    put_on = {row["name"] for row in rows if row["upstream"]}
    upstream = {row.name for row in series.patch_rows() if row.state == "upstream"}
    assert put_on >= {"patch-e", "patch-e-views"}
    left = {row["name"] for row in skipped if (row["kind"], row["why"]) == upstream_row}
    assert put_on | left == upstream > put_on


def test_the_closing_line_counts_what_was_skipped_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sglang")
    last = run(capsys, "patches", "verify", "clamp")[1].splitlines()[-1]
    assert last == f"1 of 1 patches applied and verified. {len(FILES) - 1} skipped: {len(FILES) - 1} not named"
    rows = (VerifyRow("a", "cure"), VerifyRow("b", "cure", error="x"), VerifyRow("all", "cure", ("a",)))
    told = patches_text._closing(rows, series.skipped())
    faults = sum(row.kind == "fault" for row in series.skipped())
    assert told.startswith("1 of 2 patches applied and verified, 1 of them together too. ")
    assert (
        told.endswith(" upstream, nothing to apply")
        and f" skipped: {faults} faults, by name only; " in told
        and faults > 5
    )


def test_a_cure_that_sglang_has_is_called_upstream_where_it_is_verified() -> None:
    rows = (VerifyRow("a", "cure"), VerifyRow("b", "cure", upstream=True), VerifyRow("all", "cure", ("a",)))
    console = Console(file=io.StringIO(), width=120)
    patches_text.render_verified(rows, (), console)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "verified a",
        "verified b (upstream: sglang has it; put on over sglang's own)",
        "verified all",
        "  changed a",
        "2 of 2 patches applied and verified, 1 of them upstream, 1 of them together too. 0 skipped",
    ]


def test_a_patch_without_effect_is_not_verified(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sglang")
    monkeypatch.setattr(series, "_bound", lambda path: None)
    code, out, _ = run(capsys, "patches", "verify", "clamp")
    assert code == 1 and "NOT VERIFIED [FAULT] clamp: " in out and "wanted it changed" in out


def test_a_shell_completes_names_of_patches_and_scenarios() -> None:
    assert completing("g4diag.patches", "PATCH")("patch-e") == ["patch-e", "patch-e-views"]
    assert completing("repro", "SCENARIO")("trtllm") == ["trtllm-mha-swa"]


def test_without_sglang_each_patch_names_its_releases_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("g4diag.patches.contract.version_of", lambda name: None)
    code, out, _ = run(capsys, "patches")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and out.startswith("no sglang here ") and out.count("no sglang") == 1
    assert "0.5.22 .. 0.5.23" in rows["frozen-draft-fa-swa-state"] and "!=" not in out
    assert "builds of >0.5.12.post1,<0.5.13rc0" in rows["patch-e"]


def test_its_words_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "patches")[1]
    states = {row.state for row in series.patch_rows()}
    assert states and all(f"\n{state}: {patches_text._MEANS[state]}\n" in out for state in states)
