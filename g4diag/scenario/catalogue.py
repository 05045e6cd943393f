"""Which scenarios there are; and every one of them run, each in a process of its own, and scored.

A process each, because fault states, the environment and sglang's globals are a process's; two at a time, because most
of a scenario's seconds are the import of sglang.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from g4diag.discover import Contribution, contributions
from g4diag.isolated import environment, module
from g4diag.scenario import Board, Cell, LeftOut, Progress, Row, Scenario, Score

_LONGEST = 600.0  # seconds a scenario may take on a busy machine
_VERDICTS = {0: "as expected", 1: "NOT AS EXPECTED", 3: "cannot run", 4: "vacuous"}
_EARLY: Final = "not there yet"

# A wheel carries the scenarios inside the package; a checkout has them at its top.
_PACKAGES = ("g4diag.repro", "repro")

# A command line of g4diag -> (exit code, stdout, stderr).
Child = Callable[[Sequence[str]], tuple[int, str, str]]


def listed() -> list[Contribution]:
    """Every scenario file, one that does not import included."""
    package = next((name for name in _PACKAGES if find_spec(name) is not None), _PACKAGES[-1])
    return contributions(package, "SCENARIO")


def scenarios() -> dict[str, Scenario]:
    """Every scenario that imports, by its name."""
    return {row.value.name: row.value for row in listed() if row.error is None}


def run_all(
    found: Sequence[Contribution], jobs: int, dump_dir: Path | None, progress: Progress, child: Child | None = None
) -> Board:
    """Every scenario that can run on the CPU, `jobs` at a time; the others are rows that say what they need."""
    from g4diag.hooks.versions import installed

    children = Children()
    start, run = time.perf_counter(), child or children.run
    rows: dict[str, Row] = {}
    with ThreadPoolExecutor(jobs) as pool, children.ended_with(pool):
        waiting = {}
        for each in found:
            if each.error is not None:
                rows[each.name] = Row(each.name, "failed", 0.0, why=each.error)
            elif "cpu" not in each.value.needs:
                command = f"g4diag repro {each.value.name} --device cuda"
                cell = Cell("cannot run", f"needs a GPU: {command}")
                rows[each.name] = Row(each.value.name, "needs a GPU", 0.0, why=command, cell=cell)
            else:
                waiting[pool.submit(_scored, each.value, dump_dir, run)] = each.name
        for done, future in enumerate(as_completed(waiting)):
            name = waiting[future]
            rows[name] = future.result()
            progress(f"{rows[name].scenario}: {rows[name].verdict}", done, len(waiting))
    ordered = tuple(rows[each.name] for each in found)
    return Board(ordered, installed(), time.perf_counter() - start)


def _scored(scenario: Scenario, dump_dir: Path | None, run: Child) -> Row:
    arguments = ["repro", scenario.name, "--device", "cpu", "--json"]
    arguments += [] if dump_dir is None else ["--dump-dir", str(dump_dir)]
    start = time.perf_counter()
    code, out, said = run(arguments)
    seconds = time.perf_counter() - start
    why = (said.strip().splitlines() or [f"exit {code}, and no word"])[-1].removeprefix("g4diag: ")
    if code not in (0, 1):
        why = why.removeprefix(f"{scenario.name}: ")
        if code == 3 and why.startswith(f"{_EARLY}: "):
            return Row(scenario.name, _EARLY, seconds, why=why, cell=Cell(_EARLY, why.removeprefix(f"{_EARLY}: ")))
        cell = Cell("cannot run", why) if code == 3 else None
        return Row(scenario.name, _VERDICTS.get(code, "failed"), seconds, why=why, cell=cell)
    try:
        document: dict[str, Any] = json.loads(out)
        score = Score(**{name: (right, of) for name, (right, of) in document["score"].items()})
        cell = document["cell"] and Cell(**document["cell"])
        left_out = tuple(LeftOut(**each) for each in document["left_out"])
    except (ValueError, KeyError, TypeError):
        return Row(scenario.name, "failed", seconds, why=why)
    odd = [f"{row['state']}: {row['outcome']}" for row in document["readings"] if not row["as_expected"]]
    return Row(scenario.name, _VERDICTS[code], seconds, score, "; ".join(odd), cell, left_out)


class Children:
    """Command lines of g4diag that run just now, each in a session of its own."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._is_over = False

    def run(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """A Child. One that is killed as all are is (-9, "", "")."""
        with self._lock:
            if self._is_over:
                return -signal.SIGKILL, "", ""
            pipe = subprocess.PIPE
            child = subprocess.Popen(
                module("g4diag", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                text=True,
                start_new_session=True,
                env=environment(),
            )
            self._running.add(child)
        try:
            out, said = child.communicate(timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            _kill(child)
            return 124, "", f"still running after {_LONGEST:.0f} s"
        finally:
            with self._lock:
                self._running.discard(child)
        return child.returncode, out, said

    @contextlib.contextmanager
    def ended_with(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        """Whatever ends the block early, a Ctrl-C before all, ends them: the pool would wait for each to finish."""
        try:
            yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with self._lock:
                self._is_over = True
                for child in self._running:
                    _kill(child)
            raise


def _kill(child: subprocess.Popen[str]) -> None:
    """It, and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
