"""How much a server with one violation after another writes: `python benchmarks/serve_growth.py [--violations N]`.

`g4diag serve` runs a stand-in server that feeds a faulty read to the armed traps N times, each with a line of its own
in the log besides, and ends by itself. Prints what is on disk and in the log afterwards, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVER = """
import logging, sys
logging.basicConfig(level=logging.INFO)
sys.path.insert(0, {root!r})
from pathlib import Path
import os
from g4diag.stack.live.sink import Live
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples
live = Live([TRAP], Path(os.environ["G4DIAG_DUMP_DIR"]))
view = samples.faulty_read()
for n in range({count}):
    live.sink(view)
    print("x" * {noise}, flush=False)
sys.stdout.flush()
print("seen", sum(live.seen.values()), file=sys.stderr, flush=True)
"""
HARNESS = """
import functools, sys
sys.path.insert(0, {root!r})
from g4diag.serve import supervise
supervise.run = functools.partial(supervise.run, server={server!r}, checker=())
from g4diag.cli.main import main
sys.argv = ["g4diag", "serve", "--dump-dir", {folder!r}, "--", "--model", "x"]
main()
"""


def measure(count: int, noise: int) -> dict[str, object]:
    """Sizes in bytes of what is written, by kind. noise: bytes of a line that the server itself prints each time."""
    with tempfile.TemporaryDirectory() as folder:
        server = (sys.executable, "-c", SERVER.format(root=str(ROOT), count=count, noise=noise))
        harness = HARNESS.format(root=str(ROOT), server=server, folder=folder)
        environ = {key: value for key, value in os.environ.items() if not key.startswith("G4DIAG_")}
        began = time.monotonic()
        command = [sys.executable, "-c", harness]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=folder, check=False)
        files = sorted(Path(folder).iterdir())
        logs = [path for path in files if path.name.startswith("server-")]
        text = "".join(path.read_text() for path in logs)
        sizes = {"dumps": [p for p in files if p.suffix == ".pt"], "logs": logs}
        return {
            "violations": next(
                (line for line in done.stderr.splitlines() if line.startswith("seen")), done.stderr[-300:]
            ),
            "exit": done.returncode,
            "seconds": round(time.monotonic() - began, 1),
            "violation lines": text.count("g4diag violation trap="),
            **{f"{kind}: files": len(paths) for kind, paths in sizes.items()},
            **{f"{kind}: bytes": sum(path.stat().st_size for path in paths) for kind, paths in sizes.items()},
            "others": [path.name for path in files if path not in sizes["dumps"] + logs],
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--violations", type=int, default=10_000)
    parser.add_argument("--noise", type=int, default=20_000)
    given = parser.parse_args()
    print(json.dumps(measure(given.violations, given.noise), indent=1))
