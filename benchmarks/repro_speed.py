"""What `g4diag repro trtllm-mha-swa` costs beyond importing sglang.

The whole process against fresh ones that only import the same sglang modules, in alternation, so that a busy machine
weighs on all. One of those is taken down by the interpreter, as Python scripts are. One leaves at once, as the command
does. One also begins as the command does: no collection of cycles while it imports, and no compiler of torch's. What
the command adds to the last is its own work. Goal: at most 1.5x the time, and under 2 GiB. A missed goal is printed,
not an error: exit 0, or 3 when it cannot run.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

GOAL_RATIO, GOAL_GIB = 1.5, 2.0
COMMAND = ["repro", "trtllm-mha-swa", "--json"]
# As the CLI sets them for itself; the bare import needs them from outside.
ENVIRONMENT = {
    "TRITON_INTERPRET": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "SGLANG_FLASHINFER_WORKSPACE_SIZE": "1048576",
    "SGLANG_USE_CPU_ENGINE": "1",
}
RUN = "import sys; from g4diag.cli.main import main; sys.argv[0] = 'g4diag'; main()"
# In import order, so that the bare process meets circular imports the same way round.
LIST = """
import atexit, sys
from g4diag.cli.main import main
into, *sys.argv[1:] = sys.argv[1:]
write = lambda: open(into, "w").write("\\n".join(m for m in list(sys.modules) if m.split(".")[0] == "sglang"))
atexit.register(write)
main()
"""
# Some modules import only where g4diag's stand-ins for what wants a GPU's driver are.
READY = "from g4diag.stack.drive import cpu; cpu.prepare_environment(); "
BARE = READY + "import importlib, sys; [importlib.import_module(m) for m in open(sys.argv[1]).read().split()]"
LEAVING = "; import os; os._exit(0)"
BEGUN = "import gc; gc.disable(); from g4diag.stack.drive import uncompiled; uncompiled.install(); "
IMPORTS = {
    "taken down": BARE,
    "leaves at once": BARE + LEAVING,
    "begins and leaves as the command": BEGUN + BARE + LEAVING,
}
REPRO = "g4diag repro, whole process"


@dataclass(frozen=True)
class Cost:
    """One process: seconds of wall time, of processor time, peak resident GiB."""

    seconds: float
    cpu: float
    gib: float


class CannotRun(Exception):
    """A process did not end as it should; holds the last line it said."""


def measured(program: str, *arguments: str, allowed: tuple[int, ...] = (0,)) -> Cost:
    """Run one Python process to its end."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=os.environ | ENVIRONMENT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        # The last line with words in it: a rich error ends in the frame of its box.
        last = ([line for line in said.read().decode(errors="replace").splitlines() if re.search(r"\w", line)] or [""])[
            -1
        ]
    if process.returncode not in allowed:
        raise CannotRun(f"exit {process.returncode}: {last}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def alternate(runs: int, interpreted: bool) -> tuple[int, dict[str, list[Cost]]]:
    """Number of sglang modules; costs of each kind of import, and of the repro."""
    with tempfile.TemporaryDirectory() as folder:
        modules = Path(folder, "modules")
        command = [*COMMAND, "--dump-dir", folder, *(["--interpreted"] if interpreted else [])]
        # 1, not as expected, costs the same and is the test suite's business.
        measured(LIST, str(modules), *command, allowed=(0, 1))
        costs: dict[str, list[Cost]] = {name: [] for name in (*IMPORTS, REPRO)}
        for _ in range(runs):
            for name, program in IMPORTS.items():
                costs[name].append(measured(program, str(modules)))
            costs[REPRO].append(measured(RUN, *command, allowed=(0, 1)))
        return len(modules.read_text().split()), costs


def table(modules: int, costs: dict[str, list[Cost]]) -> Table:
    turns = len(costs[REPRO])
    out = Table(
        "process", "wall s, median", "min - max", "cpu s, median", "peak GiB", title=f"{turns} alternating runs"
    )
    for name, each in costs.items():
        seconds = [cost.seconds for cost in each]
        out.add_row(
            name if name == REPRO else f"import of {modules} sglang modules, {name}",
            f"{median(each, 'seconds'):.2f}",
            f"{min(seconds):.2f} - {max(seconds):.2f}",
            f"{median(each, 'cpu'):.2f}",
            f"{max(cost.gib for cost in each):.2f}",
        )
    return out


def median(costs: list[Cost], what: str) -> float:
    return statistics.median(getattr(cost, what) for cost in costs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5, help="of each, alternating (default 5)")
    parser.add_argument("--interpreted", action="store_true", help="as `g4diag repro --interpreted`")
    arguments = parser.parse_args()
    console = Console()
    try:
        modules, costs = alternate(max(1, arguments.runs), arguments.interpreted)
    except CannotRun as error:
        console.print(f"repro_speed: cannot run: {error}", markup=False)
        return 3
    console.print(table(modules, costs))
    repro = costs[REPRO]
    rows = [
        (f"{label} ratio, import {name}", median(repro, what) / median(costs[name], what), GOAL_RATIO)
        for name in IMPORTS
        for label, what in (("wall", "seconds"), ("processor-time", "cpu"))
    ]
    for name, value, goal in (*rows, ("peak GiB", max(cost.gib for cost in repro), GOAL_GIB)):
        told = f"{name}: {value:.2f}, goal {goal:.2f}: {'met' if value <= goal else 'missed'}"
        console.print(told, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
