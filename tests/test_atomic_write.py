"""A file is whole under its name, or what was there before, and nothing is left beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4diag.atomic_write import atomic_write


@pytest.mark.parametrize("durable", [False, True])
def test_text_and_bytes_are_written_as_they_are(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a"
    assert atomic_write(path, "é\n", durable=durable) == path and path.read_bytes() == b"\xc3\xa9\n"
    atomic_write(path, b"\x00\xff", durable=durable)
    assert path.read_bytes() == b"\x00\xff" and os.listdir(tmp_path) == ["a"]


def test_when_the_disk_refuses_the_old_file_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = atomic_write(tmp_path / "a", "old")

    def refuses(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuses)
    with pytest.raises(OSError, match="no"):
        atomic_write(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]
