#!/usr/bin/env python3
"""Run the scenarios on releases of sglang, and write down how each bug stands there. `make matrix` runs this.

    .venv/bin/python tools/matrix.py [--release R ...] [--scenario S ...]    default: all known releases, all scenarios

Each release is driven in an environment of its own, which is set up if it is not there: its stack, if it is one that
others are laid over, else an overlay (tools/overlay_env.py). Each scenario runs in a process of its own, on a CPU. What
it tells goes into g4diag/matrix/cells.json when a release is done, so that an interrupted run keeps what it has. A
scenario that cannot run tells nothing of the bug: what had been read in the source stays then, and says why it was not
run. Then `make matrix-docs` writes TRIAGE's table.

Exit codes: 0; 1 if a bug stands otherwise than the data had it by running; 3 if an environment cannot be set up.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

from overlay_env import STACKS, stack_for

from g4diag.matrix import cells
from g4diag.matrix.cells import Cell
from g4diag.scenario.catalogue import scenarios

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "g4diag" / "matrix" / "cells.json"
NOT_RUN = "; not run: "
LONGEST = 1800.0  # seconds a scenario may take on a busy machine


class CannotSetUpError(Exception):
    """make's last line."""


def main() -> int:
    known = cells.matrix()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", action="append", choices=known.releases, metavar="R")
    parser.add_argument("--scenario", action="append", choices=list(scenarios()), metavar="S")
    args = parser.parse_args()
    changed = False
    for release in args.release or known.releases:
        try:
            python, source = environment(release)
        except CannotSetUpError as error:
            print(f"{release}: cannot be set up: {error}", file=sys.stderr)
            return 3
        found = [ran(name, release, python, source) for name in args.scenario or on_cpu()]
        # Read anew: the file may have been changed meanwhile.
        before = cells.read(DATA.read_text(encoding="utf-8"))
        changed |= any(differs(before.cell(cell.bug, release), cell) for cell in found)
        new = cells.replaced(before, [merged(before.cell(cell.bug, release), cell) for cell in found])
        DATA.write_text(cells.rendered(new), encoding="utf-8")
    return int(changed)


def on_cpu() -> list[str]:
    """The scenarios that a CPU can run."""
    return [name for name, scenario in scenarios().items() if "cpu" in scenario.needs]


def environment(release: str) -> tuple[Path, str]:
    """The release's Python, and what to say of where it runs."""
    if release in STACKS:
        make("setup", release)
        venv = ".venv" if release == default_stack() else f".venv-{release}"
        return ROOT / venv / "bin" / "python", "CPU, its own stack"
    make("overlay", release)
    where = f"CPU, its sglang, flashinfer and transformers over the stack of {stack_for(release)}"
    return ROOT / f".venv-{release}-overlay" / "bin" / "python", where


def default_stack() -> str:
    """The release of pyproject's extra `stack`, whose environment is .venv."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["optional-dependencies"]["stack"][0].partition("==")[2])


def make(target: str, release: str) -> None:
    command = ["make", "--no-print-directory", "-C", str(ROOT), target, f"STACK={release}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotSetUpError((done.stderr.strip().splitlines() or ["no word"])[0])


def ran(scenario: str, release: str, python: Path, source: str) -> Cell:
    """One scenario in its own process."""
    words = ["repro", scenario, "--device", "cpu", "--json"]
    start = time.monotonic()
    try:
        done = subprocess.run(
            [python, "-m", "g4diag", *words], capture_output=True, text=True, timeout=LONGEST, check=False
        )
        code, out, said = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, out, said = 124, "", f"still running after {LONGEST:.0f} s"
    standing, why = told(code, out, said)
    print(f"{release} {scenario}: {standing} ({time.monotonic() - start:.0f} s): {why}", flush=True)
    today = datetime.date.today().isoformat()
    return Cell(scenario, "", release, standing, True, why, today, f"g4diag {' '.join(words)}", source)


def told(code: int, out: str, said: str) -> tuple[cells.Standing, str]:
    """What the scenario's own JSON says; else its last line, which is why it cannot run."""
    try:
        if code in (0, 1) and (cell := json.loads(out)["cell"]):
            return cell["standing"], cell["why"]
    except (ValueError, KeyError, TypeError):
        pass
    lines = said.strip().splitlines() or [f"exit {code}, and no word"]
    return "cannot run", lines[-1].removeprefix("g4diag: ")


def merged(before: Cell | None, found: Cell) -> Cell:
    """What was found; but a scenario that cannot run leaves what was known."""
    if found.standing != "cannot run" or before is None or before.standing in ("cannot run", "unknown"):
        return found
    if before.ran:
        return before
    return replace(before, why=f"{before.why.partition(NOT_RUN)[0]}{NOT_RUN}{found.why}")


def differs(before: Cell | None, found: Cell) -> bool:
    """Whether a run before told otherwise."""
    return before is not None and before.ran and before.standing != found.standing


if __name__ == "__main__":
    sys.exit(main())
