"""Run somebody else's program over evidence, under limits: time, processor time, memory, what it writes and says."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence

MAX_OUTPUT = 1 << 20  # bytes
# cuda-gdb maps what it debugs: address space is not memory, and of that it may take this much.
_LIMITS = {
    resource.RLIMIT_AS: 32 << 30,
    resource.RLIMIT_DATA: 8 << 30,
    resource.RLIMIT_FSIZE: 256 << 20,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 1024,
}
_KEPT = ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "LANG", "LC_ALL")


def output_of(command: Sequence[str], seconds: float) -> bytes:
    """What it says on stdout and stderr, at most MAX_OUTPUT. OSError where it cannot be started, TimeoutError where it
    takes longer than `seconds`; it and all that it started are then killed. It has a folder of its own, which goes."""
    with tempfile.TemporaryDirectory(prefix="g4diag-debugger-") as folder:
        environ = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"HOME": folder, "TMPDIR": folder}
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=folder,
            start_new_session=True,
        )
        try:
            for kind, most in (*_LIMITS.items(), (resource.RLIMIT_CPU, int(seconds) + 1)):
                with contextlib.suppress(OSError, ValueError):
                    resource.prlimit(child.pid, kind, (most, most))
            return _read(child, time.monotonic() + seconds)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _read(child: subprocess.Popen[bytes], ends: float) -> bytes:
    said = b""
    assert child.stdout is not None
    with child.stdout as pipe:
        while len(said) < MAX_OUTPUT:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
            part = os.read(pipe.fileno(), MAX_OUTPUT - len(said))
            if not part:
                break
            said += part
    return said
