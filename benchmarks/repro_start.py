"""How long `g4diag repro` takes until a scenario's first state begins, and in all: this checkout beside another.

OTHER is a checkout of an earlier commit with a `.venv` over the same stack (`git worktree add`, `make setup`). The two
take turns, so that a busy machine weighs on both; the median of each and their ratio are printed. The start is the time
until the progress line of the first state. Exit 0, or 3 when a scenario does not run as expected.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parents[1]
# Those that run no model: three of an allocator alone, one of a backend's plans, one of a scheduler's policy.
WITHOUT_MODEL = (
    *("deferred-free-remap", "free-swa-per-token", "stale-mapping-on-recycle"),
    *("graph-topk-indices", "swa-ratio-starvation"),
)


class Cost(NamedTuple):
    """Seconds: of wall time until the first state begins, of wall time and of processor time in all."""

    start: float
    wall: float
    cpu: float


class CannotRun(Exception):
    """A scenario that did not end as its file says."""


def measured(checkout: Path, scenario: str, dumps: str) -> Cost:
    """One process to its end."""
    command = [str(checkout / ".venv/bin/python"), "-m", "g4diag", "repro", scenario, "--json", "--dump-dir", dumps]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = [""]
    for said[0] in process.stderr:
        if said[0].startswith("[1/"):
            break
    start = time.perf_counter() - begun
    rest = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CannotRun(f"{checkout}: {scenario}: exit {process.returncode}: {(said[0] + rest).splitlines()[-1:]}")
    return Cost(start, wall, usage.ru_utime + usage.ru_stime)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("other", type=Path, help="a checkout to compare with, with a .venv")
    parser.add_argument("scenarios", nargs="*", default=WITHOUT_MODEL, help=f"default {' '.join(WITHOUT_MODEL)}")
    parser.add_argument("--runs", type=int, default=5, help="of each, alternating (default 5)")
    arguments = parser.parse_args()
    console = Console()
    table = Table("scenario", "seconds, median", "other", "here", "here / other", title=f"{arguments.runs} turns")
    try:
        for scenario in arguments.scenarios:
            other, here = [], []
            with tempfile.TemporaryDirectory() as dumps:
                for _ in range(max(1, arguments.runs)):
                    other.append(measured(arguments.other.resolve(), scenario, dumps))
                    here.append(measured(HERE, scenario, dumps))
            for name in Cost._fields:
                before, now = (statistics.median(getattr(cost, name) for cost in costs) for costs in (other, here))
                table.add_row(scenario, name, f"{before:.2f}", f"{now:.2f}", f"{now / before:.2f}")
    except CannotRun as error:
        console.print(f"repro_start: cannot run: {error}", markup=False)
        return 3
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
