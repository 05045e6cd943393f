"""What git would carry: no package registry's host, no lock file, a docstring on every Python file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.contracts import rules

ROOT = Path(__file__).resolve().parents[2]
# Put together here, so that this file passes its own test.
HOSTS = tuple(
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
    ]
)
PASTED = (*HOSTS, "index" + "-url", "/opt/" + "pypi")
LOCKS = ("*.lock", "*lock.json", "*-lock.yaml", "*.lockb")


def carried() -> list[PurePosixPath]:
    """Tracked files, and those that a commit of everything would add."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [PurePosixPath(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def pasted(path: PurePosixPath, content: bytes) -> Iterator[str]:
    yield from (f"{path}: names {host}" for host in PASTED if host.encode() in content)


def is_lock(path: PurePosixPath) -> bool:
    return any(path.match(pattern) for pattern in LOCKS)


def test_no_registry_is_named() -> None:
    assert not [found for path in carried() for found in pasted(path, (ROOT / path).read_bytes())]


def test_no_lock_file() -> None:
    assert not [str(path) for path in carried() if is_lock(path)]


def test_every_python_file_has_a_docstring() -> None:
    python = [path for path in carried() if path.suffix == ".py"]
    assert not [c for path in python for c in rules.docstring(path, (ROOT / path).read_text(encoding="utf-8"))]


def test_the_checks_bite() -> None:
    assert list(pasted(PurePosixPath("notes.md"), b"pip install --extra-" + PASTED[-2].encode() + b" http://host"))
    assert all(list(pasted(PurePosixPath("x"), f"https://{host}/simple".encode())) for host in HOSTS)
    assert is_lock(PurePosixPath("a/poetry.lock")) and is_lock(PurePosixPath("package-lock.json"))
    assert not is_lock(PurePosixPath("g4diag/block.py"))
