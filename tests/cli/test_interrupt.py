"""Ctrl-C is answered at once: 130, what was registered runs, and nothing heavy is taken down first."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

CODE = """
import atexit, sys, time
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

main.contributions = lambda *_: [Contribution("wait", "x", Command("wait", wait)), Contribution("b", "y", diff.COMMAND)]
swallows = "swallow" in sys.argv
sys.argv = ["g4diag", "wait"]
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
