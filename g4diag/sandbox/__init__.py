"""Evidence is read and judged in a child process with limits; what comes back is one JSON document, checked here.

A reader that a file has tricked into asking for too much memory or time takes nothing with it but itself. The child
is a fresh interpreter with a short environment, no stdin, and the parent's import path and no other: neither site nor
the current folder adds to it, so a `numpy.py` that lies beside the evidence is not imported. The parent needs no numpy.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from g4diag.errors import CannotRunError, G4DiagError, UnsafeInputError, UsageError, VacuousError
from g4diag.model import Comparison, Inspection
from g4diag.sandbox.effort import Progress, Share, count_files, seconds_for_logs
from g4diag.sandbox.spool import spooled
from g4diag.sandbox.wire import from_plain
from g4diag.settings import Settings

# What may be called: name -> the module it is in, and what it returns, as a class or as the "module:name" of one that
# needs numpy. Each takes a sequence of paths, and plain values by name.
DOORS: dict[str, tuple[str, type[Any] | str]] = {
    "inspect_files": ("g4diag.analyzers", Inspection),
    "diff_files": ("g4diag.analyzers", Comparison),
    "gather_files": ("g4diag.serve.gathering", "g4diag.dump.postmortem:PostMortem"),
}
MAX_ANSWER_BYTES = 32 << 20
# To start, to open a slow disk, to answer: 3 s of processor time and this keep one file under 5 s by the clock.
GRACE_SECONDS = 1.5
LOOK_SECONDS = 0.25
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from g4diag.sandbox.child import main; main()"
_KEPT = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_ERRORS: dict[int, type[G4DiagError]] = {
    kind.exit_code: kind for kind in (UsageError, CannotRunError, VacuousError, UnsafeInputError)
}


class ChildFault(Exception):
    """Code of ours failed in the child: an internal error. Its traceback is in the notes."""


def inspect_files(paths: Sequence[Path]) -> Inspection:
    """`g4diag.analyzers.inspect_files` in a child process; `-` is standard input. Raises what that raises, see
    `call`."""
    with spooled(paths) as files:
        found: Inspection = call("inspect_files", files)
    return found


def diff_files(paths: Sequence[Path]) -> Comparison:
    """`g4diag.analyzers.diff_files` in a child process. Raises what that raises, see `call`."""
    found: Comparison = call("diff_files", paths)
    return found


def call(
    door: str,
    paths: Sequence[Path],
    settings: Settings | None = None,
    *,
    more: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    cores: Sequence[Path] | None = None,
) -> Any:
    """What the function in DOORS makes of these paths. more: plain values that it takes by name. seconds: of processor
    time, for all. cores: the files that may be core dumps, if not all may.

    Raises the error of ours that it raises, ChildFault for any other, UnsafeInputError where it needs more than
    G4DIAG_SANDBOX_MIB of memory, or G4DIAG_SANDBOX_SECONDS of processor time, see `Share`, or dies, and CannotRunError
    where it only waits: for a disk that stalls, say."""
    settings = settings or Settings.from_env()
    share = Share(settings.sandbox_seconds, count_files(paths), seconds_for_logs(paths))
    seconds = share.in_all if seconds is None else seconds
    request: dict[str, Any]
    request = {"door": door, "paths": list(map(os.fspath, paths)), "mib": settings.sandbox_mib, "seconds": seconds}
    request |= {
        "cores": _debugged(paths if cores is None else cores),
        "share": (share.each, share.files),
        "more": dict(more or {}),
    }
    names = ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    try:
        return _result(_ask(request, settings.show_traceback), _returned(DOORS[door][1]), settings.sandbox_mib)
    except _Died as death:
        raise UnsafeInputError(f"{names}: {death}") from None
    except _Stalled as stall:
        raise CannotRunError(f"{names}: {stall}") from None


def _returned(kind: type[Any] | str) -> Any:
    if not isinstance(kind, str):
        return kind
    module, _, name = kind.partition(":")
    return getattr(importlib.import_module(module), name)


def _debugged(paths: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """What cuda-gdb says of the core dumps among these; it could not run under the child's limits."""
    if shutil.which("cuda-gdb") is None:
        return {}
    from g4diag.dump.debugger import ask

    return ask(paths)


class _Died(Exception):
    """The child ended without an answer that can be used. Says why."""


def _ask(request: dict[str, Any], show_errors: bool) -> bytes:
    """The child's answer, not yet looked at."""
    import subprocess

    clock, progress = _Clock(request["seconds"]), Progress(request["paths"])
    errors = None if show_errors else subprocess.DEVNULL
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, *sys.path]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=errors, env=_environment()) as child:
        try:
            assert child.stdin is not None and child.stdout is not None
            with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
                stdin.write(json.dumps(request).encode())
            raw = _read(child.stdout, child.pid, clock, progress)
            while child.poll() is None:
                clock.check(child.pid)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(LOOK_SECONDS)
        finally:
            progress.done()
            if child.poll() is None:
                child.kill()
    if child.returncode:
        raise _Died(_death(child.returncode, request["seconds"]))
    return raw


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | dict.fromkeys(_ONE_THREAD, "1")


class _Stalled(Exception):
    """The child waited for something other than a processor. That says nothing of the evidence."""


class _Clock:
    """The time in which a child neither ran nor was ready to: it waits for a disk, or for nothing. A busy machine does
    not count. Its processor time is limited by itself, and looked at here in case that it is not."""

    def __init__(self, seconds: float) -> None:
        self._may_wait, self._seconds = seconds + GRACE_SECONDS, seconds
        self._waited, self._used, self._looked = 0.0, -1, time.monotonic()

    def check(self, pid: int) -> None:
        """_Stalled if it has waited for too long, _Died if it has run for too long. May be called at any time."""
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        (used, is_ready), before = _ticks(pid), self._used
        if used == before and not is_ready:
            # Not more than one look: this process may have been kept waiting too.
            self._waited += min(now - self._looked, 2 * LOOK_SECONDS)
        self._used, self._looked = used, now
        if used > (self._seconds + 1) * os.sysconf("SC_CLK_TCK"):
            raise _Died(_death(-signal.SIGXCPU, self._seconds))
        if self._waited > self._may_wait:
            raise _Stalled(f"it waited for {self._waited:.1f} s and did nothing; given up")


def _ticks(pid: int) -> tuple[int, bool]:
    """Processor time of a process so far, in the system's ticks, and whether it runs or is ready to; (0, False) where
    /proc does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12]), fields[0] == "R"
    return 0, False


def _read(pipe: IO[bytes], pid: int, clock: _Clock, progress: Progress) -> bytes:
    """Until the end of the pipe. _Died for too long a wait, or too much."""
    import select

    parts: list[bytes] = []
    size = 0
    while size <= MAX_ANSWER_BYTES:
        clock.check(pid)
        progress.look(pid)
        if not select.select([pipe], [], [], LOOK_SECONDS)[0]:
            continue
        part = os.read(pipe.fileno(), 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    raise _Died(f"too much is found in it: wanted at most {MAX_ANSWER_BYTES} bytes to show, found more")


def _death(status: int, seconds: float) -> str:
    if status in (-signal.SIGPROF, -signal.SIGXCPU):
        return f"it took more than {seconds:g} s of processor time (G4DIAG_SANDBOX_SECONDS); given up"
    if status < 0:
        return f"the process that read it died of {signal.Signals(-status).name}"
    return f"the process that read it ended with status {status} (G4DIAG_TRACEBACK=1 shows why)"


def _result(raw: bytes, kind: type[Any], mib: int) -> Any:
    """What the answer holds, or the error it tells of."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise _Died("the process that read it gave no answer") from None
    match answer:
        case {"result": result}:
            try:
                return from_plain(kind, result)
            except UnsafeInputError as error:
                raise _Died(f"the process that read it gave an odd answer: {error}") from None
        case {"error": str(text), "exit_code": int(code)}:
            raise _ERRORS.get(code, G4DiagError)(text)
        case {"fault": str(text), "traceback": str(trace)}:
            fault = ChildFault(text)
            fault.add_note(trace)
            raise fault
        case {"memory": True}:
            raise _Died(f"it needs more than {mib} MiB of memory (G4DIAG_SANDBOX_MIB); given up")
    raise _Died("the process that read it gave an answer of unknown shape")
