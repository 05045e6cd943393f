"""`g4diag serve` that is stopped, or killed, or whose server leaves a log that is dear to read: nobody is kept waiting,
no process is left, and there is a post-mortem."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.dump import postmortem
from tests.cli.test_serve import FIT, clean_environ, program
from tests.cli.test_serve_postmortem import HARNESS, dead, serve

Start = Callable[..., subprocess.Popen[str]]
# A server with a child of its own, which says who both are once it is up.
SERVER = (
    "import subprocess, time; s = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "p = pathlib.Path('ready'); t = p.with_suffix('.tmp'); t.write_text(f'{os.getpid()} {s.pid}'); t.rename(p);"
)
QUIET = "import signal; [signal.signal(n, signal.SIG_DFL) for n in (1, 2, 3, 10, 12)];"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def begin(code: str, before: str = "") -> subprocess.Popen[str]:
        harness = before + HARNESS.format(
            server=program(code), checker=FIT, arguments=("--dump-dir", "dumps", "--", "--model", "x")
        )
        command = [sys.executable, "-c", harness]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=clean_environ())
        running.append(child)
        wait_for((tmp_path / "ready").exists)
        return child

    yield begin
    for child in running:
        child.kill()
        child.communicate()


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_log_of_blank_lines_does_not_hang_it(tmp_path: Path) -> None:
    began = time.monotonic()
    done = serve("sys.stdout.write('\\n' * 300_000); sys.stdout.flush(); os.abort()", "--dump-dir", "d", cwd=tmp_path)
    assert done.returncode == 134 and dead(done, tmp_path / "d").cause == "abort"
    assert time.monotonic() - began < 60


def test_who_stops_it_is_not_kept_waiting_for_the_post_mortem(start: Start, tmp_path: Path) -> None:
    slow = "from g4diag import sandbox; sandbox._PROGRAM = \"open('reading', 'w'); import time; time.sleep(60)\";"
    child = start(SERVER + "s.kill(); os.abort()", before=slow)
    wait_for((tmp_path / "reading").exists)
    child.terminate()
    began = time.monotonic()
    assert child.wait(30) == 134 and time.monotonic() - began < 10
    (path,) = (tmp_path / "dumps").glob("postmortem-*.json")
    assert "told to stop (SIGTERM) before" in postmortem.parse(path.read_bytes()).line


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_ends_the_server_is_told_and_leaves_no_process(number: int, start: Start, tmp_path: Path) -> None:
    child = start(QUIET + SERVER + "time.sleep(60)", before=QUIET)
    pids = list(map(int, (tmp_path / "ready").read_text().split()))
    assert all(map(is_alive, pids))
    child.send_signal(number)
    assert child.wait(30) == 128 + number
    (path,) = (tmp_path / "dumps").glob("postmortem-*.json")
    assert postmortem.parse(path.read_bytes()).signal == signal.Signals(number).name
    wait_for(lambda: not any(map(is_alive, pids)), 10)


def test_a_killed_serve_leaves_a_post_mortem_and_no_process(start: Start, tmp_path: Path) -> None:
    child = start(SERVER + f"print('{'x' * 20}', flush=True); time.sleep(60)")
    pids = list(map(int, (tmp_path / "ready").read_text().split()))
    time.sleep(0.5)
    child.kill()
    wait_for(lambda: bool(list((tmp_path / "dumps").glob("postmortem-*.json"))), 90)
    (path,) = (tmp_path / "dumps").glob("postmortem-*.json")
    found = postmortem.parse(path.read_bytes())
    assert found.cause == "supervisor-died" and str(child.pid) in found.line and "x" * 20 in found.log_tail
    wait_for(lambda: not any(map(is_alive, pids)), 10)


def test_an_orderly_end_leaves_no_keeper(start: Start, tmp_path: Path) -> None:
    child = start(SERVER + "s.kill(); time.sleep(1); sys.exit(0)")
    keeper = [pid for pid in map(int, os.popen(f"pgrep -P {child.pid}").read().split())]
    assert len(keeper) == 2 and child.wait(30) == 0
    wait_for(lambda: not any(map(is_alive, keeper)), 10)
