"""The state file: every answer on disk at once, torn ends forgiven, other searches and other files refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4diag.errors import UnsafeInputError, UsageError
from g4diag.minimize.memory import Memory

HEADER = {"scenario": "s", "seed": 0}


def kept(path: Path) -> Memory:
    memory = Memory(path, HEADER, resume=False)
    memory.put({"a": 2, "b": 1}, True)
    memory.put({"a": 1, "b": 1}, False)
    return memory


def test_answers_come_back_and_a_line_cut_short_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "state"
    kept(path)
    with path.open("a") as file:
        file.write('["a=3 b=1", tr')
    memory = Memory(path, HEADER, resume=True)
    assert (len(memory), memory.get({"b": 1, "a": 2}), memory.get({"a": 1, "b": 1})) == (2, True, False)
    assert memory.get({"a": 3, "b": 1}) is None
    memory.put({"a": 3, "b": 1}, True)
    assert len(Memory(path, HEADER, resume=True)) == 3
    memory.forget()
    assert list(tmp_path.iterdir()) == []


def test_without_resume_it_begins_anew(tmp_path: Path) -> None:
    kept(tmp_path / "state")
    assert len(Memory(tmp_path / "state", HEADER, resume=False)) == 0


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (None, UsageError, "nothing to go on from"),
        ('{"format": "g4diag-minimize", "version": 1, "scenario": "s", "seed": 7}\n', UsageError, "wanted 0, found 7"),
        ('{"format": "other"}\n', UnsafeInputError, "no state file"),
        ("", UnsafeInputError, "no state file"),
        ("[" * 100_000 + "\n", UnsafeInputError, "no state file"),
        ('{"format": "g4diag-minimize", "version": 1, "scenario": "s", "seed": 0}\n[1]\n', UnsafeInputError, r"\[1\]"),
    ],
)
def test_another_file_is_refused(text: str | None, error: type[Exception], says: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=says):
        Memory(path, HEADER, resume=True)
