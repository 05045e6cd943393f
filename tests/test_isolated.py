"""What lies in the current folder is not executed: not by a command, nor by any child process of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from g4diag.doctor import flag_check
from g4diag.isolated import environment, module
from g4diag.serve import preflight, supervise
from g4diag.servers import run as servers

ROOT = Path(__file__).parents[1]
# Of the standard library, of what we install with, of us and of the stack: none is imported by Python before us.
NAMES = ("json", "numpy", "typer", "rich", "g4diag", "sglang", "torch", "tomllib", "ctypes", "argparse", "dataclasses")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which each of these would say that it was run."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w')\nraise ImportError('hostile')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("ran-*"))


@pytest.mark.parametrize("python_path", [None, "", ":", ".", f"{os.pathsep}{ROOT}"])
def test_no_child_runs_it(python_path: str | None, folder: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environ |= {} if python_path is None else {"PYTHONPATH": python_path}
    for program in (supervise.SERVER, preflight.PROGRAM, flag_check.PROGRAM, servers.COMMAND):
        assert list(program[:3]) == [sys.executable, "-P", "-m"]
    code = (
        f"import runpy; [__import__(name) for name in {[n for n in NAMES if n not in ('torch', 'sglang', 'g4diag')]!r}]"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and ran(folder) == [], done.stderr


@pytest.mark.parametrize("python_path", [str(ROOT), f"{ROOT}{os.pathsep}", f"{ROOT}{os.pathsep}."])
def test_no_command_runs_it(python_path: str, folder: Path) -> None:
    (folder / "x.log").write_text("2026-05-05 02:22:14 Killed\n")
    for name in ("g4diag", "dataclasses"):
        (folder / f"{name}.py").unlink()  # before our first line there is nothing that we could do
    command = [sys.executable, "-m", "g4diag", "inspect", "x.log"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": python_path}, capture_output=True, text=True)
    assert "x.log" in done.stdout + done.stderr and ran(folder) == [], done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_that_was_given_in_full_is_kept(folder: Path) -> None:
    made = environment({"PYTHONPATH": f"/opt/a{os.pathsep}{os.pathsep}b", "X": "1"})
    assert made == {"PYTHONPATH": "/opt/a", "X": "1"}
    assert environment({"PYTHONPATH": "."}) == {} and module("x", "y")[-3:] == ["-m", "x", "y"]
