"""Whatever a reader ends in is its file's line, and costs no other file of the case."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from g4diag.dump import case, core_dump, legacy, postmortem, ring, server_log
from g4diag.dump.case import read_case
from g4diag.dump.reader import read_dump
from g4diag.dump.ring import RingWriter
from g4diag.dump.writer import write_dump
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade
from tests import samples
from tests.dump.test_core_dump import CORE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of each kind, and a sound dump."""
    write_dump(samples.faulty_incident(), tmp_path / "sound.pt")
    for name in ("legacy-page-table.pt", "legacy-allocator.pt", "h100-postmortem.json", "h100-surfaced-elsewhere.log"):
        shutil.copy(ROOT / "dumps" / name, tmp_path)
    RingWriter(tmp_path / "x.g4ring", {}, 1 << 14).close()
    (tmp_path / "core.1").write_bytes(CORE)
    shutil.copytree(ROOT / "tests" / "cases" / "evidence" / "case-fi", tmp_path / "calls")
    return tmp_path


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        (legacy, "from_page_table", "legacy-page-table.pt"),
        (legacy, "from_allocator", "legacy-allocator.pt"),
        (postmortem, "parse", "h100-postmortem.json"),
        (server_log, "read_log", "h100-surfaced-elsewhere.log"),
        (ring, "parse_ring", "x.g4ring"),
        (core_dump, "read_core", "core.1"),
    ],
)
def test_a_reader_s_failure_is_its_file_s_line(
    module: Any, function: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, function, fail)
    with pytest.raises(UnsafeInputError, match=rf"{name}: not understood: its reader ended in KeyError: 'odd'"):
        read_dump(folder / name)
    found = read_case([folder])
    assert "sound.pt" in [part.name for part in found.parts] and name not in [part.name for part in found.parts]


def test_so_is_that_of_kernel_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "read_calls", fail)
    found = read_case([folder])
    assert "sound.pt" in [part.name for part in found.parts]
    assert any("its reader ended in KeyError" in line for line in found.unread)


def fail(*_: object, **__: object) -> None:
    raise KeyError("odd")


def test_what_is_written_is_its_owner_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    write_dump(samples.faulty_incident(), folder / "x.pt")
    RingWriter(folder / "x.g4ring", {}, 1 << 14).close()
    postmortem.write(postmortem.PostMortem("x", "x", Grade.GUESS, 1), folder / "x.json")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
