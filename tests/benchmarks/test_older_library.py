"""The build where the C++ library has no std::bit_cast: what its exit code says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With a compiler that says it lacks std::bit_cast, and a file that stands for nvcc."""
    compilers = tmp_path / "compilers"
    compilers.mkdir()
    lacking = '#!/bin/sh\n[ "$1" = --version ] && echo "c++ 10" && exit\necho "error g4diag_has_none" >&2\nexit 1\n'
    (compilers / "c++").write_text(lacking)
    (compilers / "c++").chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
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
    (tmp_path / "bin" / "nvcc").unlink()
    assert script.main() == 3 and "wanted a compiler without std::bit_cast and nvcc" in capsys.readouterr().out
    (tmp_path / "bin" / "nvcc").touch()
    compiler = tmp_path / "compilers" / "c++"
    compiler.write_text("#!/bin/sh\nexit 0\n")
    script_cache = importlib.import_module("g4diag.patches.kernel_sources").lacks_bit_cast
    script_cache.cache_clear()
    assert script.main() == 3
