"""The processes of one session: a server starts in one of its own, and so do all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_LOOK = 0.025  # seconds


def members(session: int) -> dict[int, bytes]:
    """pid -> command line of the living processes in a session; none where there is no /proc."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == session:
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return {pid: title for pid, title in found.items() if title}


def stop_session(session: int, grace: float) -> int:
    """Ask its leader to stop, wait for all, then kill who is left; how many that were."""
    if members(session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(session, signal.SIGTERM)
    return kill_rest(session, grace)


def kill_rest(session: int, grace: float) -> int:
    """Wait for the members of a session to end, then kill who is left; how many that were."""
    deadline = time.monotonic() + grace
    while (left := members(session)) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(left)
