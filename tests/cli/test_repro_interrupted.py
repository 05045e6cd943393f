"""Ctrl-C ends `repro --all` at once, and every process of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("sglang")


def children(pid: int) -> list[int]:
    try:
        return [
            int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()
        ]
    except OSError:
        return []


def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    # A suite started in the background passes an ignored SIGINT on.
    code = "import signal, sys; signal.signal(2, signal.default_int_handler); sys.argv = ['g4diag', 'repro', '--all'];"
    command = [sys.executable, "-c", f"{code} from g4diag.cli.main import main; main()"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (started := [pid for pid in descendants(running.pid) if b"--json" in title(pid)]):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
        assert running.returncode == 130 and "Traceback" not in said
        assert time.monotonic() - began < 5  # a second on an idle machine
        assert not any(b"--json" in title(pid) for pid in started)
    finally:
        running.kill()
        running.communicate()


def descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *descendants(child))]


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
