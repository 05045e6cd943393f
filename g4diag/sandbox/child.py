"""The child's side: load our own code, give up what reading does not need, then open the first file, and answer once.

The limits come after the imports, which are not the file's doing: their memory is not counted, and they may still
write their `.pyc`. What is given up for good comes last of all, see `confine`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from g4diag.discover import contributions
from g4diag.dump import allowance, core_dump
from g4diag.errors import G4DiagError
from g4diag.logs.reading import signs, text_signs
from g4diag.sandbox import DOORS
from g4diag.sandbox.confine import confine
from g4diag.sandbox.wire import to_plain

MAX_OPEN_FILES = 64
# Listed folders: their modules are imported when first asked for, which must not be under the limits.
_LISTED = (
    ("g4diag.traps", "TRAP"),
    ("g4diag.analyzers", "ANALYZER"),
    ("g4diag.logs.prefixes", "PREFIX"),
    ("g4diag.logs.events", "EVENT"),
)


def main() -> None:
    """Read the request from stdin, answer on stdout."""
    pipe = os.dup(1)
    request = json.load(sys.stdin)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    answer = _answer(request)
    with open(pipe, "wb") as out:
        out.write(answer)


def _answer(request: dict[str, Any]) -> bytes:
    """One JSON object: `result`; or `error` and `exit_code`; or `fault` and `traceback`; or `memory` alone."""
    try:
        function = getattr(importlib.import_module(DOORS[request["door"]][0]), request["door"])
        for package, constant in _LISTED:
            contributions(package, constant)
        signs(), text_signs()  # compiled once: that takes longer than to read a small log
        core_dump.tell(request["cores"])
        allowance.tell(*request["share"])
        limit(request["mib"] << 20, request["seconds"])
        confine()
        return _json({"result": to_plain(function([Path(path) for path in request["paths"]], **request["more"]))})
    except G4DiagError as error:
        return _json({"error": str(error), "exit_code": error.exit_code})
    except MemoryError:
        return _json({"memory": True})
    except Exception as error:
        return _json({"fault": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()})


def _json(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, allow_nan=False).encode()


def limit(memory_bytes: int, seconds: float) -> None:
    """From here on: so much more address space and processor time, no file written, no core dump, few files open.

    What this system does not limit stays as it was; the parent's clock does not depend on it."""
    # Whole seconds since the process began are all that the resource limit knows; it stands behind the timer.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    space, processor = _address_space() + memory_bytes, math.ceil(time.process_time() + seconds) + 1
    wanted = {
        resource.RLIMIT_AS: space,
        resource.RLIMIT_CPU: processor,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
    }
    for kind, value in wanted.items():
        with contextlib.suppress(OSError, ValueError):
            most = resource.getrlimit(kind)[1]
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(kind, (value, value))


def _address_space() -> int:
    """Bytes mapped so far; a generous guess where /proc does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return 1 << 30
    return pages * resource.getpagesize()
