"""What `g4diag inspect` costs against a bare `torch.load` of the same file, each a fresh process, children included.

The file: one read of a 256-row x 4096-page table, its full-space twin and a mapping of 2 M entries, through our own
writer; once with the right table and once with the wrong one. Rounds are interleaved, so that a busy minute weighs on
all. Goals: at most 1.5x the wall time, 2x the memory, and 0.3 s of processor time for `g4diag --help`. A missed goal
is printed, not an error: exit 0, or 3 when it cannot run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROWS, COLUMNS, PAGE, MAPPED = 256, 4096, 64, 2_000_000
GOAL_WALL, GOAL_MEMORY, GOAL_HELP = 1.5, 2.0, 0.3
LOAD = "import sys, torch; torch.load(sys.argv[1], weights_only=True)"
G4DIAG = [sys.executable, "-m", "g4diag"]
SAMPLE_SECONDS = 0.005


@dataclass(frozen=True)
class Cost:
    """One process with its children. wall, cpu: seconds. mib: resident, each one's peak, added up."""

    wall: float
    cpu: float
    mib: float


class CannotRun(Exception):
    """A process did not end as it should; holds what it ended with."""


def made(path: Path, faulty: bool) -> Path:
    """The dump: 256 requests share a SWA pool of half as many pages as the full one; a faulty one hands full ids."""
    import numpy as np

    from g4diag.dump.writer import write_dump
    from g4diag.model import AttentionRead, Incident, IndexMapping, IndexSpace, LayerKind, PoolView

    rng = np.random.default_rng(0)
    pages = MAPPED // PAGE
    swa_of_page = np.zeros(pages, np.int64)
    chosen = np.arange(1, pages)[::2]
    swa_of_page[chosen] = rng.permutation(len(chosen)) + 1
    full_to_swa = np.zeros(MAPPED + 1, np.int64)
    full_to_swa[:MAPPED] = np.repeat(swa_of_page, PAGE)[:MAPPED] * PAGE + np.tile(np.arange(PAGE), pages)
    full_to_swa[:MAPPED] *= np.repeat(swa_of_page > 0, PAGE)
    full_to_swa[-1] = -1
    mapping = IndexMapping(full_to_swa, PAGE)
    full_table = rng.choice(chosen, (ROWS, COLUMNS))
    table = full_table if faulty else mapping.swa_pages(full_table)
    read = AttentionRead(
        *(7, "draft", "draft_decode", "graph", "TRTLLMHAAttnBackend", 4, LayerKind.SWA, -1),
        pool=PoolView("swa", IndexSpace.SWA_PAGE, PAGE, len(chosen) + 1),
        table_space=IndexSpace.FULL_PAGE if faulty else IndexSpace.SWA_PAGE,
        page_table_BP=table.astype(np.int32),
        seq_lens_B=np.full(ROWS, COLUMNS * PAGE, np.int32),
        rids=tuple(f"r{row}" for row in range(ROWS)),
        full_page_table_BP=full_table.astype(np.int64),
        mapping=mapping,
    )
    return write_dump(Incident("g4diag", reads=(read,), mapping=mapping), path, max_bytes=64 << 20)


def measured(command: Sequence[str], allowed: Sequence[int]) -> Cost:
    """Run one command to its end. CannotRun if it leaves with another code than these."""
    peaks: dict[int, int] = {}
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        done, status, used = os.wait4(child.pid, os.WNOHANG)
        if done:
            break
        for pid in family(child.pid):
            peaks[pid] = max(peaks.get(pid, 0), peak_kib(pid))
        time.sleep(SAMPLE_SECONDS)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in allowed:
        raise CannotRun(f"{' '.join(command[:4])} ...: wanted exit {allowed}, found {child.returncode}")
    return Cost(wall, used.ru_utime + used.ru_stime, sum(peaks.values()) / 1024)


def family(pid: int) -> Iterator[int]:
    """The process and those it started that still run."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from family(int(child))


def peak_kib(pid: int) -> int:
    """The most it has been resident so far; 0 if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def median(costs: Sequence[Cost]) -> Cost:
    """Of each figure by itself."""
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in ("wall", "cpu", "mib")))


def rows(folder: Path, rounds: int) -> list[tuple[str, Cost, Cost | None]]:
    """What ran, what it cost, and what the bare load of the same file cost; medians over the rounds."""
    files = {name: folder / f"{name}.pt" for name in ("healthy", "faulty")}
    for path in files.values():
        # In a process of its own: this one stays small, as a child starts with its parent's peak.
        subprocess.run([sys.executable, __file__, "--make", str(path)], check=True)
    found: dict[str, list[Cost]] = {}
    for number in range(rounds + 1):
        ran = {"g4diag --help": measured([*G4DIAG, "--help"], [0])}
        for name, path in files.items():
            ran[f"load {name}"] = measured([sys.executable, "-c", LOAD, str(path)], [0])
            ran[f"inspect {name}"] = measured([*G4DIAG, "inspect", str(path)], [int(name == "faulty")])
        # The first round reads everything from the disk.
        for name, cost in ran.items() if number else ():
            found.setdefault(name, []).append(cost)
    middle = {name: median(costs) for name, costs in found.items()}
    return [(name, cost, middle.get(name.replace("inspect", "load"))) for name, cost in middle.items()]


def table(found: Sequence[tuple[str, Cost, Cost | None]]) -> Table:
    """One row a command; ratios to the bare load of the same file."""
    shown = Table(box=None, pad_edge=False)
    for title in ("process", "wall s", "cpu s", "peak MiB", "wall x", "cpu x", "memory x", "goal"):
        shown.add_column(title, justify="left" if title in ("process", "goal") else "right")
    for name, cost, base in found:
        ratios = ["", "", ""]
        goal = ""
        if name.startswith("inspect") and base is not None:
            wall, cpu, memory = cost.wall / base.wall, cost.cpu / base.cpu, cost.mib / base.mib
            ratios = [f"{ratio:.2f}" for ratio in (wall, cpu, memory)]
            goal = "met" if wall <= GOAL_WALL and memory <= GOAL_MEMORY else "MISSED"
        elif name.endswith("--help"):
            goal = "met" if cost.cpu < GOAL_HELP else "MISSED"
        shown.add_row(name, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.mib:.0f}", *ratios, goal)
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--make", type=Path, help="only write that file; wrong if its name begins with faulty")
    arguments = parser.parse_args()
    if arguments.make:
        made(arguments.make, arguments.make.name.startswith("faulty"))
        return 0
    rounds = max(1, arguments.rounds)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = rows(Path(folder), rounds)
    except CannotRun as problem:
        print(f"inspect_speed: {problem}", file=sys.stderr)
        return 3
    goals = (
        f"wall at most {GOAL_WALL}x, memory {GOAL_MEMORY}x the load of the same file; --help under {GOAL_HELP} s cpu"
    )
    Console(width=120).print(table(found))
    print(f"median of {rounds} interleaved rounds after one to warm up; {goals}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
