"""`g4diag report` and `inspect --html`: files whole or not there, exit codes as of inspect."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from g4diag.cli import main
from g4diag.dump.writer import write_dump
from tests import samples

pytestmark = pytest.mark.usefixtures("no_child")


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
    code, out, err = run(capsys, "inspect", faulty, "--html", tmp_path / "x.html", "--json")
    assert err == f"g4diag: page written to {tmp_path / 'x.html'}\n"
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


def test_refusals_are_those_of_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(b"no dump")
    assert run(capsys, "report", tmp_path / "x.pt")[:2] == (5, "")
    assert run(capsys, "report", tmp_path / "gone.pt")[:2] == (2, "")
    assert run(capsys, "report", write_dump(samples.incident(), tmp_path / "y.pt"))[0] == 4


def test_a_healthy_file_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    healthy = write_dump(samples.incident(samples.healthy_read()), tmp_path / "x.pt")
    code, out, err = run(capsys, "report", healthy, "-o", tmp_path / "x.md")
    assert (code, out) == (4, "") and err.startswith("g4diag: x.pt: nothing to report, no report made: ")
    assert err.count("\n") == 1 and "the log of the server that died" in err and not (tmp_path / "x.md").exists()


@pytest.mark.parametrize("command", ["inspect", "match", "report"])
def test_a_missing_file_is_told_and_the_rest_is_judged(
    command: str, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, healthy = tmp_path / "gone.pt", write_dump(samples.incident(samples.healthy_read()), tmp_path / "x.pt")
    code, out, err = run(capsys, command, gone, faulty)
    assert code == (4 if command == "match" else 1) and not err
    assert command == "report" or out.count("gone.pt: not read: No such file or directory") == 1
    assert run(capsys, command, gone, healthy)[0] == 4, "never a plain 0"
    assert run(capsys, command, gone, tmp_path / "gone too")[:2] == (2, "")


COMMANDS = pytest.mark.parametrize("command", [["inspect", "--html"], ["report", "-o"]], ids=["html", "md"])


@COMMANDS
@pytest.mark.parametrize("target", ["faulty.pt", "link.pt", "hard.pt", "folder/in.pt", "notes.txt", "fifo", "", "."])
def test_evidence_is_not_overwritten(
    command: list[str], target: str, faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    write_dump(samples.faulty_incident(), tmp_path / "folder" / "in.pt")
    (tmp_path / "link.pt").symlink_to(faulty)
    os.link(faulty, tmp_path / "hard.pt")
    (tmp_path / "notes.txt").write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    out = target if target in ("", ".") else str(tmp_path / target)
    code, shown, err = run(capsys, command[0], faulty, tmp_path / "folder", command[1], out)
    assert (code, shown) == (2, "") and err.startswith("g4diag: ") and err.count("\n") == 1
    assert "internal error" not in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@COMMANDS
def test_an_earlier_report_is_replaced_but_as_input_it_is_not(
    command: list[str], faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for replaced in ("", ", in place of an earlier one"):
        code, _, err = run(capsys, command[0], faulty, command[1], tmp_path / "x")
        assert code == 1 and err.endswith(f" written to {tmp_path / 'x'}{replaced}\n")
    code, _, err = run(capsys, command[0], tmp_path / "x", command[1], tmp_path / "x")
    assert code == 2 and "one of the inputs" in err
    other = {"inspect": "report", "report": "inspect"}[command[0]]
    option = {"inspect": "--html", "report": "-o"}[other]
    code, _, err = run(capsys, other, faulty, option, tmp_path / "x")
    assert code == 2 and "found something else" in err


@pytest.mark.parametrize("command", ["inspect", "report", "match", "diff", "minimize"])
def test_an_empty_file_name_is_2(command: str, faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [faulty, ""] if command == "diff" else [""]
    assert run(capsys, command, *paths) == (2, "", "g4diag: empty file name\n")
