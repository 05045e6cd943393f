"""A folder's rows: sorted, mechanism left out, a broken module is a row."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from g4diag.discover import contributions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "g4diag_discovered"
    (tmp_path / name).mkdir()
    for module, source in {
        "zebra": "THING = 26",
        "ant": "THING = 1",
        "helper": "def thing(): ...",
        "_private": "THING = 0",
        "broken": "raise RuntimeError('half written')",
        "script": "raise SystemExit(3)",
        "syntax": "def (",
    }.items():
        (tmp_path / name / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[loaded]


def test_rows_are_sorted_and_mechanism_is_left_out(folder: str) -> None:
    rows = contributions(folder, "THING")
    assert [row.name for row in rows] == ["ant", "broken", "script", "syntax", "zebra"]
    assert [row.value for row in rows if row.error is None] == [1, 26]


def test_a_module_that_does_not_import_says_why(folder: str) -> None:
    errors = {row.name: row.error for row in contributions(folder, "THING") if row.error}
    assert errors["broken"] == "RuntimeError: half written"
    assert errors["script"] == "SystemExit: 3"
    assert errors["syntax"].startswith("SyntaxError")


def test_a_folder_that_does_not_import_is_one_row() -> None:
    (row,) = contributions("g4diag_no_such_folder", "THING")
    assert row.value is None and row.error.startswith("ModuleNotFoundError")


def test_a_module_is_not_a_folder() -> None:
    (row,) = contributions("g4diag.errors", "THING")
    assert row.error.startswith("AttributeError")


def test_our_own_folders_have_no_broken_row() -> None:
    rows = contributions("g4diag.patches", "PATCH") + contributions("g4diag.traps", "TRAP")
    assert rows and not [row for row in rows if row.error]
