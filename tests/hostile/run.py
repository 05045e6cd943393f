"""Run the real CLI on each file of a folder, two at a time: `python tests/hostile/run.py FOLDER`, JSON on stdout.

A process of its own: Linux counts what a parent had resident towards its child's peak, and pytest holds torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GIVEN_UP_SECONDS = 20


def inspect(path: Path) -> dict[str, Any]:
    """How one process ended, all it said, what it took. peak_kib: of the largest of it and its children."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        command = [sys.executable, "-m", "g4diag", "inspect", str(path)]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        status, used = _wait(child.pid, began + GIVEN_UP_SECONDS)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        said = [file.seek(0) or file.read().decode(errors="replace") for file in (out, err)]
    about = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak_kib": used.ru_maxrss}
    return {"name": path.name, "code": child.returncode, "out": said[0], "err": said[1], **about}


def _wait(pid: int, ends: float) -> tuple[int, Any]:
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            return status, used
        if time.perf_counter() > ends:
            os.kill(pid, 9)
        time.sleep(0.005)


if __name__ == "__main__":
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        json.dump(list(workers.map(inspect, sorted(Path(sys.argv[1]).iterdir()))), sys.stdout)
