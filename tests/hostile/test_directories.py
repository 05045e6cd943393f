"""A hostile directory: nothing outside it is opened, nothing in it is waited for, and what is shown does not act."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from g4diag.cli import main
from g4diag.dump.case import MAX_DEPTH, MAX_FILES
from g4diag.dump.writer import write_dump
from tests import samples

Run = Callable[..., tuple[int, str, str]]
MAX_SECONDS = 5.0
ACTS = "\x1b[2J\u202e<script>alert(1)"


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; processor time of this process and of its child stays small."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        before = sum(os.times()[:4])
        code = main.run(["inspect", *map(str, arguments)])
        assert sum(os.times()[:4]) - before < MAX_SECONDS
        captured = capsys.readouterr()
        assert all(line.isprintable() for line in (captured.out + captured.err).split("\n"))
        return code, captured.out, captured.err

    return run


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    write_dump(samples.faulty_incident(), folder / "faulty.pt")
    return folder


def test_links_out_of_it_are_not_followed(case: Path, inspect: Run) -> None:
    (case.parent / "outside").mkdir()
    (case.parent / "outside" / "x.log").write_text("Killed SECRET\n")
    (case / "file.log").symlink_to(case.parent / "outside" / "x.log")
    (case / "folder").symlink_to(case.parent / "outside")
    (case / "loop").symlink_to(case)
    call = case / "20261122_100001_000_pid5_f_call0001"
    call.mkdir()
    (call / "metadata.jsonl").symlink_to(case.parent / "outside" / "x.log")
    code, out, _ = inspect(case)
    assert code == 1 and "SECRET" not in out and out.count("a link: not followed") == 3
    assert "not a regular file" in out


def test_a_pipe_inside_is_not_waited_for(case: Path, inspect: Run) -> None:
    os.mkfifo(case / "pipe.pt")
    began = time.monotonic()
    code, out, _ = inspect(case)
    assert code == 1 and "pipe.pt: not a regular file: not opened" in out and time.monotonic() - began < 30


def test_names_that_act_are_shown_as_text(case: Path, inspect: Run) -> None:
    (case / f"{ACTS}.log").write_text(f"Killed {ACTS}\n")
    (case / f"{ACTS}.pt").write_bytes(b"PK\3\4 broken")
    for form in ([], ["--json"]):
        assert inspect(case, *form)[0] == 1


def test_too_many_files_are_refused(case: Path, inspect: Run) -> None:
    for number in range(MAX_FILES):
        (case / f"{number}").touch()
    code, out, err = inspect(case)
    assert (code, out) == (5, "") and str(case) in err and f"at most {MAX_FILES}" in err and err.count("\n") == 1


def test_what_lies_too_deep_is_said_not_read(case: Path, inspect: Run) -> None:
    deep = case.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "x.log").write_text("Killed\n")
    code, out, _ = inspect(case)
    assert code == 1 and f"more than {MAX_DEPTH} directories deep" in out


@pytest.mark.parametrize(("content", "wanted"), [(b"\0garbage", 4), (b"PK\3\4 garbage", 5)])
def test_a_directory_of_garbage_is_one_line_that_names_it(
    content: bytes, wanted: int, tmp_path: Path, inspect: Run
) -> None:
    for number in range(9):
        (tmp_path / f"{number}.pt").write_bytes(content)
    code, out, err = inspect(tmp_path)
    assert (code, out) == (wanted, "") and str(tmp_path) in err and err.count("\n") == 1
