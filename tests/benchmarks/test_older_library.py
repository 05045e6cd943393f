"""The build where the C++ library has no std::bit_cast: what its exit code says."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With an nvcc that says its compiler lacks std::bit_cast."""
    compilers = tmp_path / "compilers"
    for folder, name in ((compilers, "g++"), (tmp_path / "bin", "nvcc")):
        folder.mkdir()
        (folder / name).write_text("#!/bin/sh\necho 10.2\necho 'error g4diag_has_none' >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(sys, "argv", ["older_library.py", "--compilers", str(compilers)])
    return importlib.import_module("older_library")


@pytest.mark.parametrize(
    ("released", "cured", "code"),
    [("MISSING", "BUILT", 0), ("BUILT", "BUILT", 1), ("MISSING", "MISSING", 1), ("another error", "BUILT", 1)],
)
def test_only_a_stop_and_a_cure_are_a_success(
    script: Any, monkeypatch: pytest.MonkeyPatch, released: str, cured: str, code: int
) -> None:
    said = {"as released": getattr(script, released, released), "cured": getattr(script, cured, cured)}
    monkeypatch.setattr(script, "build", lambda how, environment: (said[how], 1.0))
    assert script.main() == code


def test_nothing_to_show_is_no_success(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 0\n")
    importlib.import_module("g4diag.patches.kernel_sources").lacks_bit_cast.cache_clear()
    assert script.main() == 3 and "wanted an nvcc whose g++ has no std::bit_cast" in capsys.readouterr().out
    nvcc.unlink()
    assert script.main() == 3
