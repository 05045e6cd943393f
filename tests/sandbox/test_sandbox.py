"""The child cannot take more than it is given, and whatever becomes of it is one line in the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4diag import sandbox
from g4diag.analyzers import diff_files, inspect_files
from g4diag.dump.writer import write_dump
from g4diag.errors import CannotRunError, UnsafeInputError, UsageError
from g4diag.settings import Settings
from tests import samples
from tests.dump.test_core_dump import CORE, said

ROOT = Path(__file__).parents[2]


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    return write_dump(samples.faulty_incident(), tmp_path / "faulty.pt")


def test_it_answers_what_the_function_answers(faulty: Path) -> None:
    assert plain(sandbox.inspect_files([faulty])) == plain(inspect_files([faulty]))


def plain(value: Any) -> Any:
    return json.loads(json.dumps(sandbox.wire.to_plain(value)))


def test_errors_of_ours_come_back_as_themselves(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"hello\0")
    with pytest.raises(UnsafeInputError, match=r"x\.pt: "):
        sandbox.inspect_files([tmp_path / "x.pt"])
    with pytest.raises(UsageError, match="No such file"):
        sandbox.inspect_files([tmp_path / "y.pt"])


def test_too_much_memory(tmp_path: Path) -> None:
    mapping = samples.mapping().full_to_swa_M
    large = np.concatenate([np.tile(mapping[:-1], 60), mapping[-1:]])
    read = samples.faulty_read(mapping=samples.IndexMapping(large, samples.PAGE))
    path = write_dump(samples.incident(read), tmp_path / "large.pt")
    with pytest.raises(UnsafeInputError, match=r"large\.pt: it needs more than 8 MiB of memory"):
        sandbox.call("inspect_files", [path], Settings(sandbox_mib=8))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os._exit(7)", "ended with status 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGPROF)", "more than 1 s of processor time"),
        ("while True: pass", "more than 1 s of processor time"),
        ("pass", "gave no answer"),
        ("print('[1, 2]')", "an answer of unknown shape"),
        ("print('[' * 100000)", "gave no answer"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "too much is found"),
        ("""print('{"result": {"name": 7}}')""", "wanted the fields of Inspection"),
    ],
)
def test_whatever_becomes_of_it(
    program: str, said: str, faulty: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "_PROGRAM", program)
    monkeypatch.setattr(sandbox, "GRACE_SECONDS", -0.5)
    with pytest.raises(UnsafeInputError, match=said) as refusal:
        sandbox.call("inspect_files", [faulty], Settings(sandbox_seconds=1))
    assert str(refusal.value).startswith(f"{faulty}: ") and "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("body", ["time.sleep(60)", "os.close(1); time.sleep(60)"])
def test_one_that_only_waits_says_nothing_of_the_evidence(
    body: str, faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "GRACE_SECONDS", -0.5)
    monkeypatch.setattr(sandbox, "_PROGRAM", f"import os, time; {body}")
    with pytest.raises(CannotRunError, match=r"it waited for 0\.\d s and did nothing; given up"):
        sandbox.call("inspect_files", [faulty], Settings(sandbox_seconds=1))


def test_one_that_is_kept_waiting_for_a_processor_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes no refusal of a good file."""
    now = [0.0]
    monkeypatch.setattr(sandbox.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sandbox, "_ticks", lambda pid: (0, True))
    clock = sandbox._Clock(1)
    for _ in range(400):
        now[0] += 1
        clock.check(1)
    monkeypatch.setattr(sandbox, "_ticks", lambda pid: (0, False))
    with pytest.raises(sandbox._Stalled):
        for _ in range(400):
            now[0] += 1
            clock.check(1)


def test_the_limits_of_one_file_are_under_five_seconds() -> None:
    assert Settings().sandbox_seconds + sandbox.GRACE_SECONDS + sandbox.LOOK_SECONDS < 5


def test_a_debugger_runs_outside_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes a file, which the child may not; and no other file is given to it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "said").write_text("\n".join(said()))
    gdb = tmp_path / "bin" / "cuda-gdb"
    gdb.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {tmp_path}/said\n')
    gdb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gdb.parent}:{os.environ['PATH']}")
    case = tmp_path / "case"
    case.mkdir()
    for name, data in {"core.1": CORE, "host.1": CORE[:16] + b"\4\0\x3e\0" + CORE[20:], "x.log": b"Killed\n"}.items():
        (case / name).write_bytes(data)
    (case / "link").symlink_to(case / "core.1")
    inspection = sandbox.inspect_files([case])
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 1 and "core.1" in asked[0] and "-nx" in asked[0]
    assert any("Warp Illegal Address" in finding.text for finding in inspection.of("misattribution"))


def test_two_files_side_by_side(faulty: Path) -> None:
    assert plain(sandbox.diff_files([faulty, faulty])) == plain(diff_files([faulty, faulty]))


def test_a_fault_of_ours_is_no_refusal(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sandbox.DOORS, "inspect_files", ("g4diag.analyzers", int))
    monkeypatch.setattr(sandbox, "_PROGRAM", """print('{"fault": "KeyError: 1", "traceback": "line 3"}')""")
    with pytest.raises(sandbox.ChildFault, match="KeyError: 1") as fault:
        sandbox.inspect_files([faulty])
    assert fault.value.__notes__ == ["line 3"]


LIMITED = """
import sys, time
from g4diag.sandbox.child import limit
import mmap, os
limit(64 << 20, 0.2)
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("bytes(1 << 28)", "MemoryError"),
        ("mmap.mmap(-1, 1 << 28)", "Cannot allocate memory"),
        ("os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b'x')", "File too large"),
        ("[os.open(os.devnull, os.O_RDONLY) for _ in range(100)]", "Too many open files"),
    ],
)
def test_limits(body: str, said: str, tmp_path: Path) -> None:
    done = run([LIMITED + body, str(tmp_path / "written")])
    assert said in done.stderr and done.returncode == 1
    assert not (tmp_path / "written").exists() or not (tmp_path / "written").read_bytes()


def test_processor_time() -> None:
    done = run([LIMITED + "while True: pass"])
    assert done.returncode == -27


def run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_what_lies_beside_the_evidence_is_not_imported(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numpy", "json", "g4diag", "sitecustomize"):
        (faulty.parent / f"{name}.py").write_text("open('imported', 'w')")
    monkeypatch.chdir(faulty.parent)
    monkeypatch.setenv("PYTHONPATH", str(faulty.parent))
    assert sandbox.inspect_files([Path("faulty.pt")]).outcome.exit_code == 1
    assert not (faulty.parent / "imported").exists()
