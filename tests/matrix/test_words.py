"""The matrix in words; and TRIAGE's table is the one that the data gives."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from g4diag.matrix.cells import Matrix, matrix
from g4diag.matrix.words import affected_releases, table

ROOT = Path(__file__).resolve().parents[2]
RELEASES = ("1.0", "1.1", "1.2", "1.3")
CELL = replace(matrix().cells[0], scenario="some-bug")


def of(*standings: str) -> Matrix:
    """A row: `alive` or `alive?` for one that was read, "" for a release that nobody looked at."""
    cells = [
        replace(CELL, release=release, standing=standing.rstrip("?"), ran=not standing.endswith("?"))
        for release, standing in zip(RELEASES, standings, strict=True)
        if standing
    ]
    return Matrix(RELEASES, tuple(cells))


@pytest.mark.parametrize(
    ("standings", "said"),
    [
        (("alive", "alive", "alive", "alive"), "1.0 .. 1.3 (ran)"),
        (("alive?", "cured", "alive?", "alive?"), "1.0, 1.2 .. 1.3 (read)"),
        (("alive", "alive?", "cured", "cured"), "1.0 .. 1.1 (ran: 1.0; else read)"),
        (("alive", "", "cannot run", "cured"), "1.0 (ran); not known: 1.1 .. 1.2"),
        (("not there yet", "cured", "cured", "cured"), "none of 1.0 .. 1.3"),
        (("", "cured?", "", "unknown"), "none of 1.1; not known: 1.0, 1.2 .. 1.3"),
        (("cannot run", "", "", ""), "none known; not known: 1.0 .. 1.3"),
        (("", "", "", ""), ""),
    ],
)
def test_where_it_is_alive_is_said_and_how_that_is_known(standings: tuple[str, ...], said: str) -> None:
    assert affected_releases(of(*standings), "some-bug") == said


def test_a_table_marks_what_was_read() -> None:
    assert table(of("alive", "alive?", "not there yet?", "cannot run")).splitlines() == [
        "| bug | 1.0 | 1.1 | 1.2 | 1.3 |",
        "| --- | --- | --- | --- | --- |",
        "| `some-bug` | alive | *alive* | *-* | cannot run |",
    ]
    assert table(of("", "cured", "unknown", "cured?")).splitlines()[2:] == ["| `some-bug` | ? | cured | ? | *cured* |"]


def tool():  # type: ignore[no-untyped-def]
    """tools/matrix_docs.py, which is no package."""
    spec = importlib.util.spec_from_file_location("matrix_docs", ROOT / "tools" / "matrix_docs.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document_has_what_the_data_gives() -> None:
    text = (ROOT / "TRIAGE.md").read_text(encoding="utf-8")
    assert tool().with_table(text, matrix()) == text, "run `make matrix-docs`"
    assert all(f"| `{bug}` |" in text for bug in matrix().bugs)


def test_that_test_bites_and_a_document_without_marks_is_refused() -> None:
    text, made = (ROOT / "TRIAGE.md").read_text(encoding="utf-8"), tool()
    assert made.with_table(text, of("alive", "alive", "alive", "alive")) != text
    for broken in ("", made.BEGIN, made.END + made.BEGIN, text + text):
        with pytest.raises(ValueError, match="wanted one"):
            made.with_table(broken, matrix())
