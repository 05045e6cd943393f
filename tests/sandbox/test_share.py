"""Processor time is a case's: one hostile file costs its share and is said to be unread, and the others are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4diag import sandbox
from g4diag.dump import allowance, case
from g4diag.dump.writer import write_dump
from g4diag.errors import UnsafeInputError
from g4diag.sandbox.effort import Share
from g4diag.settings import Settings
from tests import samples

ROOT = Path(__file__).parents[2]
# In the child: a reader that never ends for files of this name.
SLOW = """
import sys; sys.path[:] = sys.argv[1:]
from g4diag.dump import case
read = case.read_dump
def slow(path):
    while "hostile" in path.name: pass
    return read(path)
case.read_dump = slow
from g4diag.sandbox.child import main; main()
"""


def test_one_hostile_file_among_many_costs_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_PROGRAM", SLOW)
    for number in range(8):
        write_dump(samples.faulty_incident(), tmp_path / f"{number:02}.pt")
    (tmp_path / "05-hostile.log").write_text("2026-05-05 02:22:14 Killed\n")
    before = sum(os.times()[2:4])
    found = sandbox.call("inspect_files", [tmp_path], Settings(sandbox_seconds=1))
    assert found.outcome.exit_code == 1 and sum(os.times()[2:4]) - before < 20
    said = " ".join(finding.text for finding in found.findings)
    assert "05-hostile.log: not read: it took more than 1 s of processor time" in said


def test_many_hostile_files_leave_no_time_to_the_rest_and_are_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_PROGRAM", SLOW)
    write_dump(samples.faulty_incident(), tmp_path / "00.pt")
    for number in range(1, 12):
        (tmp_path / f"{number:02}-hostile.log").write_text("2026-05-05 02:22:14 Killed\n")
    before = sum(os.times()[2:4])
    found = sandbox.call("inspect_files", [tmp_path], Settings(sandbox_seconds=1))
    assert sum(os.times()[2:4]) - before < 20 and found.outcome.exit_code == 1
    assert "took all the processor time that a case may" in " ".join(finding.text for finding in found.findings)


def test_a_case_gets_no_more_for_many_files_than_for_three() -> None:
    assert Share(3, 64, 0).in_all < 20 and Share(3, 1, 0).in_all == 3 and Share(3, 2, 0).in_all > 6
    assert Share(3, 2, 40).each == 43


def test_without_a_word_nothing_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    with allowance.one_file():
        pass
    monkeypatch.setattr(allowance, "_ends", 1e-9)
    monkeypatch.setattr(allowance, "_each", 1.0)
    with pytest.raises(UnsafeInputError, match="the files before it"), allowance.one_file():
        pass
    assert case.allowance is allowance
