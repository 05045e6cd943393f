"""`g4diag report` and `inspect --html`: files whole or not there, exit codes as of inspect."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from g4diag.cli import main
from g4diag.dump.writer import write_dump
from tests import samples


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    return write_dump(samples.faulty_incident(), tmp_path / "faulty.pt")


def test_the_screen_and_the_file_get_the_same(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "report", faulty, "--md")
    assert code == 1 and out.startswith("### Describe the bug\n") and not err
    code, shown, _ = run(capsys, "report", faulty, "-o", tmp_path / "issue.md")
    assert code == 1 and not shown and (tmp_path / "issue.md").read_text(encoding="utf-8") == out


def test_html_and_json_together(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", faulty, "--html", tmp_path / "x.html", "--json")
    assert code == 1 and json.loads(out)["exit_code"] == 1
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and page.endswith("</html>\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faulty.pt", "x.html"]


@pytest.mark.parametrize("command", [["inspect", "--html"], ["report", "-o"]], ids=["html", "md"])
def test_nowhere_to_write_is_2(
    command: list[str], faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, command[0], faulty, command[1], tmp_path / "no" / "x")
    assert code == 2 and not out and "cannot be written" in err and err.count("\n") == 1


def test_no_plotly_is_3_and_leaves_no_file(
    faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, out, err = run(capsys, "inspect", faulty, "--html", tmp_path / "x.html")
    assert code == 3 and not out and "g4diag[html]" in err and err.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


def test_refusals_are_those_of_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(b"no dump")
    assert run(capsys, "report", tmp_path / "x.pt")[:2] == (5, "")
    assert run(capsys, "report", tmp_path / "gone.pt")[:2] == (2, "")
    assert run(capsys, "report", write_dump(samples.incident(), tmp_path / "y.pt"))[0] == 4
