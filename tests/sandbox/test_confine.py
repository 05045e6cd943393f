"""A confined process reads, and can neither write, nor connect, nor start another, nor signal one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from g4diag.sandbox import confine

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(bool(confine.missing()), reason="; ".join(confine.missing()))
CONFINED = """
import ctypes, os, signal, socket, subprocess, sys
from g4diag.sandbox.confine import confine
parent = os.getppid()
held = confine()
assert len(held) == 3, held
"""


def run(body: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CONFINED + body, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "body",
    [
        "open(sys.argv[1], 'w')",
        "open(sys.argv[2], 'r+')",
        "os.unlink(sys.argv[2])",
        "os.rename(sys.argv[2], sys.argv[1])",
        "os.truncate(sys.argv[2], 0)",
        "os.chmod(sys.argv[2], 0o777)",
        "os.mkdir(sys.argv[1])",
        "os.symlink('x', sys.argv[1])",
        "os.utime(sys.argv[2])",
        "os.setxattr(sys.argv[2], 'user.x', b'x')",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "subprocess.run(['true'])",
        "os.execv('/bin/true', ['true'])",
        "os.kill(parent, 0)",
        "os.memfd_create('x')",
    ],
)
def test_it_can_not(body: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    done = run(body, tmp_path / "new", kept)
    assert done.returncode == 1 and "PermissionError" in done.stderr, done.stderr
    assert kept.read_text() == "kept" and [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_it_can_read_and_answer(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("read")
    done = run("print(open(sys.argv[1]).read(), os.listdir(sys.argv[2]))", tmp_path / "x", tmp_path)
    assert (done.returncode, done.stdout) == (0, "read ['x']\n"), done.stderr


@pytest.mark.parametrize("part", ["_landlock", "_seccomp"])
def test_each_part_alone_keeps_it_from_writing(part: str, tmp_path: Path) -> None:
    other = "_seccomp" if part == "_landlock" else "_landlock"
    code = CONFINED.replace(
        "held = confine()", f"from g4diag.sandbox import confine as c; c.{other} = lambda *_: 0; held = confine()"
    )
    code = code.replace("== 3", "== 2") + "open(sys.argv[1], 'w')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "new")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "PermissionError" in done.stderr and not list(tmp_path.iterdir()), done.stderr


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "landlock_abi", lambda: 3)
    monkeypatch.setattr(confine.platform, "machine", lambda: "riscv64")
    said = " ".join(confine.missing())
    assert "seccomp (not on riscv64)" in said and "ABI 3, wanted 4" in said
