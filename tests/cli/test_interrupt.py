"""A command that imported torch, and one that Ctrl-C ends, leave at once: what was printed is there, what was
registered runs, and nothing heavy is taken down first."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

CODE = """
import atexit, sys, threading, time
from g4diag.cli import diff, main
from g4diag.cli.contract import Command
from g4diag.discover import Contribution

class Slow:
    def __del__(self):
        time.sleep(30)

def wait():
    atexit.register(lambda: print("registered", flush=True))
    sys.modules["slow"] = Slow()
    print("ready", flush=True)
    try:
        time.sleep(60)
    except BaseException:
        if swallows:
            raise RuntimeError("half imported") from None
        raise

def compute():
    import torch
    atexit.register(print, "registered")
    sys.modules["slow"] = Slow()
    threading.Thread(target=lambda: (time.sleep(0.5), print("thread"))).start()
    print("done")
    if fails:
        raise main.typer.Exit(4)

commands = Command("wait", wait), Command("compute", compute), diff.COMMAND
main.contributions = lambda *_: [Contribution(each.name, "x", each) for each in commands]
swallows, fails = "swallow" in sys.argv, "fails" in sys.argv
sys.argv = ["g4diag", "compute" if "compute" in sys.argv else "wait"]
main.main()
"""


def heard() -> None:
    """A test run in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("how", ["", "swallow"])
def test_it_leaves_with_130_before_the_interpreter_is_taken_down(how: str) -> None:
    """Even where what was interrupted made another error of it, as a half-done import of torch does."""
    command = [sys.executable, "-c", CODE, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heard) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest = running.communicate(timeout=60)[0]
    assert running.returncode == 130 and rest == "registered\n"
    assert time.monotonic() - began < 20, "the thirty seconds of its teardown were not waited for"


@pytest.mark.parametrize(("how", "code"), [("", 0), ("fails", 4)])
def test_a_command_that_imported_torch_leaves_before_it_is_taken_down(how: str, code: int) -> None:
    pytest.importorskip("torch")
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CODE, "compute", how], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (code, ["done", "thread", "registered"])
    assert time.monotonic() - began < 25, "the thirty seconds of its teardown were not waited for"
