"""A small process that outlives `g4diag serve`: where that is killed, the server and what is left of it is stopped, and
the post-mortem is written all the same.

It waits on a pipe whose other end only `serve` holds. A word that all is over ends it; the end of the pipe without that
word is the death of `serve`. It is a session of its own, so that what a terminal sends does not reach it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from g4diag.serve.sessions import members, stop_session

GRACE = 20.0  # seconds between asking the server to stop and killing it
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from g4diag.serve.keeper import main; main()"
_OVER = b"over\n"


class Keeper:
    """Of one server. wanted: a post-mortem is. log: the name of the server's log, "" for none."""

    def __init__(self, dump_dir: Path, run_dir: Path, environ: Mapping[str, str], log: str, wanted: bool) -> None:
        self._about = {"serve": os.getpid(), "started": time.time(), "log": log, "wanted": wanted}
        self._about |= {"dump_dir": str(dump_dir.absolute()), "run_dir": str(run_dir), "environ": dict(environ)}
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, session: int) -> None:
        """From here on. session: of the server, its leader's pid. OSError where no process can be started."""
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, *sys.path]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._about | {"session": session}).encode() + b"\n")
        self._process.stdin.flush()

    def over(self) -> None:
        """The server has ended and `serve` tells of it."""
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.write(_OVER)
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


def main() -> None:
    """Wait for the word, or for the end of the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    about = json.loads(sys.stdin.buffer.readline())
    if sys.stdin.buffer.readline() != _OVER:
        _after(about, lambda text: print(f"g4diag serve: {text}", file=sys.stderr, flush=True))


def _after(about: Mapping[str, object], say: Callable[[str], None]) -> None:
    session, run_dir = int(str(about["session"])), Path(str(about["run_dir"]))
    with contextlib.suppress(OSError):
        say(f"was killed (pid {about['serve']}); its server is stopped")
    ended = "had ended" if not members(session) else "was told to stop"
    stop_session(session, GRACE)
    try:
        if about["wanted"]:
            _tell(about, ended, run_dir, say)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _tell(about: Mapping[str, object], ended: str, run_dir: Path, say: Callable[[str], None]) -> None:
    from dataclasses import replace

    from g4diag.model import Grade
    from g4diag.serve import gathering, postmortem

    environ = {str(key): str(value) for key, value in dict(about["environ"]).items()}  # type: ignore[call-overload]
    dump_dir = Path(str(about["dump_dir"]))
    end = postmortem.End(-signal.SIGTERM, float(str(about["started"])), asked=True)
    found = gathering.gather_in_child(end, dump_dir, run_dir, environ, str(about["log"]))
    if found.grade is not Grade.MEASURED or found.line.startswith("the server ended with"):
        line = f"g4diag serve (pid {about['serve']}) was killed; its server {ended}"
        found = replace(found, cause="supervisor-died", line=line, grade=Grade.MEASURED)
    path = postmortem.write(found, dump_dir)
    with contextlib.suppress(OSError):
        say(postmortem.said_in_one_line(found, path))
