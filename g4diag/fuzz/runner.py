"""Run one machine under Hypothesis until a claim breaks or its budget is spent."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import ExampleDatabase
from hypothesis.errors import Flaky
from hypothesis.internal.conjecture import engine, providers
from hypothesis.internal.conjecture.pareto import ParetoFront
from hypothesis.reporting import with_reporter
from hypothesis.stateful import run_state_machine_as_test

from g4diag.errors import VacuousError
from g4diag.fuzz.contract import Machine
from g4diag.fuzz.evidence import written
from g4diag.fuzz.program import steps_of
from g4diag.fuzz.session import Broken, Session, opened
from g4diag.model import Violation
from g4diag.model.campaign import Failure, MachineRun

Progress = Callable[[MachineRun], None]
ROUND = 50
_modules_kept = 0
_CONSTANT = "_maybe_draw_constant"
_PHASES = (Phase.reuse, Phase.generate, Phase.target, Phase.shrink)


@dataclass(frozen=True)
class Budget:
    """examples: to run; None for as many as fit into `seconds`. shrinking: seconds for that, after a failure. enough:
    examples after which a run ends, at the end of a round, if it has reached every goal."""

    examples: int | None = None
    seconds: float = 60.0
    shrinking: float = 30.0
    enough: int | None = None


def run(
    machine: Machine,
    budget: Budget,
    seed: int = 0,
    faults: Sequence[str] = (),
    database: ExampleDatabase | None = None,
    dump_dir: Path | None = None,
    progress: Progress = lambda run: None,
) -> MachineRun:
    """Rounds of examples, each with a seed of its own made from `seed`: the same seed and budget of examples, with a
    database that holds nothing of it or none, is the same run. progress: told after each round. VacuousError where the
    same choices led Hypothesis another way and nothing broke."""
    with opened(machine, faults) as session:
        rounds = _Rounds(session, budget, seed)
        while (size := rounds.next_size()) and not session.first:
            if error := rounds.run(size, database):
                failure = _failure(error, session, rounds.start)
                return rounds.result(faults, written(failure, session, seed, dump_dir))
            progress(rounds.result(faults))
        return rounds.result(faults)


class _Rounds:
    """Hypothesis is run again and again: it can stop after so many examples, not after so long."""

    def __init__(self, session: Session, budget: Budget, seed: int) -> None:
        self.session, self.budget, self.seed = session, budget, seed
        self.start, self.number, self.examples = time.perf_counter(), 0, 0

    def next_size(self) -> int:
        """Examples of the next round; 0 when the budget is spent."""
        enough = self.budget.enough
        if enough is not None and self.examples >= enough and not self.session.missing():
            return 0
        if self.budget.examples is not None:
            return min(ROUND, self.budget.examples - self.examples)
        spent = time.perf_counter() - self.start
        if not self.examples:
            return ROUND // 5
        return max(0, min(ROUND, int((self.budget.seconds - spent) / (spent / self.examples))))

    def run(self, size: int, database: ExampleDatabase | None) -> Broken | Flaky | None:
        """One round; what broke. Flaky: it broke once, and did not when Hypothesis ran the same steps again."""
        chosen = settings(
            max_examples=size,
            stateful_step_count=self.session.machine.steps,
            deadline=None,
            derandomize=False,
            database=database,
            phases=_PHASES,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        seeded = hypothesis.seed(self.seed * 1_000_003 + self.number)(_fresh_class(self.session.machine.drives))
        self.number += 1
        self.examples += size
        _keep_what_imports_brought()
        try:
            with _as_we_want_it(self.budget.shrinking), with_reporter(_silent):
                run_state_machine_as_test(seeded, settings=chosen)
        except Broken as error:
            return error
        except Flaky as error:
            if self.session.first is not None:
                return error
            told = str(error).partition("\n")[0]
            raise VacuousError(f"{self.session.machine.name}: nothing broke, but its steps vary: {told}") from error
        return None

    def result(self, faults: Sequence[str], failure: Failure | None = None) -> MachineRun:
        session, first = self.session, self.session.first
        return MachineRun(
            machine=session.machine.name,
            seed=self.seed,
            faults=tuple(faults),
            examples=session.examples,
            steps=session.steps,
            seconds=(first.at if first else time.perf_counter()) - self.start,
            inside=session.inside,
            coverage=dict(sorted(session.coverage.items())),
            judged=dict(sorted(session.judged.items())),
            missing=session.missing(),
            failure=failure,
            broken_off=session.broken_off,
        )


def _as_we_want_it(shrinking: float) -> ExitStack:
    """For the body, what Hypothesis has no setting for. shrinking: seconds, which are five minutes there; it stops with
    the best it has."""
    kept = ExitStack()
    kept.enter_context(patch.object(engine, "MAX_SHRINKING_SECONDS", shrinking))
    # It mixes integers into what it draws that it read in the source of whatever this process has imported: the same
    # seed would draw otherwise in another process, and after any change of ours. An older one reads no sources.
    provider: Any = getattr(providers, "HypothesisProvider", None)
    if hasattr(provider, _CONSTANT):
        kept.enter_context(patch.object(provider, _CONSTANT, lambda *args, **constraints: None))
    # With a database it keeps the examples that no other one beats in what a machine aims at, and runs them again and
    # again to make them smaller: a good part of the time, and nothing that breaks is found in it.
    kept.enter_context(patch.object(engine, "ParetoFront", _NoFront))
    return kept


class _NoFront(ParetoFront):
    def add(self, data: Any) -> bool:
        return False


def _keep_what_imports_brought() -> None:
    """A million objects that stay: the collector goes through them now and then, and Hypothesis before each example."""
    global _modules_kept
    if len(sys.modules) > _modules_kept:
        _modules_kept = len(sys.modules)
        gc.collect()
        gc.freeze()


def _silent(text: object) -> None:
    """Hypothesis prints to stdout what it thinks of the time that shrinking takes."""


def _fresh_class(drives: type[Any]) -> type[Any]:
    """A class of the same name and source: `hypothesis.seed` leaves its mark on what it is given."""
    return type(drives.__name__, (drives,), {"__module__": drives.__module__, "__qualname__": drives.__qualname__})


def _failure(error: Broken | Flaky, session: Session, start: float) -> Failure:
    """Read the shrunk program off the error; what the session holds is of its last run. Of a failure that did not come
    again, what was seen when it came."""
    first = session.first
    assert first is not None
    if isinstance(error, Broken):
        claim, text, program = error.claim, error.text, steps_of(getattr(error, "__notes__", []))
        violations: Sequence[Violation] = session.violations
    else:
        claim, text, program, violations = first.claim, first.text, first.program, first.violations
    return Failure(
        claim=claim,
        text=text,
        program=program,
        found_after=first.steps,
        seconds=first.at - start,
        shrink_seconds=time.perf_counter() - first.at,
        also=tuple(dict.fromkeys(violation.trap for violation in violations if violation.trap != claim)),
        repeats=isinstance(error, Broken),
    )
