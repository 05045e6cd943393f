"""A campaign: several machines one after the other, in this process or in several with seeds of their own."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

from g4diag.errors import CannotRunError, UsageError
from g4diag.fuzz.profiles import Keep
from g4diag.fuzz.replay import selected
from g4diag.fuzz.runner import Budget, run
from g4diag.fuzz.session import check_faults, prepare
from g4diag.hooks.versions import installed
from g4diag.model.campaign import Campaign, MachineRun

_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Plan:
    """What was asked for. machines: names, all of them for none. examples: of each machine; None for as many as fit
    into `minutes`, which all machines share. jobs: processes; examples are divided among them, minutes are not."""

    machines: tuple[str, ...] = ()
    examples: int | None = None
    minutes: float = 1.0
    seed: int = 0
    faults: tuple[str, ...] = ()
    jobs: int = 1
    keep: Keep = field(default_factory=Keep)
    dump_dir: Path | None = None

    def budget(self) -> Budget:
        """Of one machine in one process."""
        examples = None if self.examples is None else -(-self.examples // self.jobs)
        return Budget(examples, self.minutes * 60 / max(1, len(self.machines)))


def campaign(plan: Plan, say: Callable[[str], None] | None = None) -> Campaign:
    """Run it. say: takes a line of progress now and then. Raises UsageError for an unknown machine or fault,
    CannotRunError without sglang or the wanted database, or where a process of several was killed."""
    plan = replace(plan, machines=tuple(machine.name for machine in selected(plan.machines)))
    for name, number in (("jobs", plan.jobs), ("examples", plan.examples), ("minutes", plan.minutes)):
        if number is not None and not number > 0:
            raise UsageError(f"--{name}: wanted a number above 0, found {number}")
    check_faults(plan.faults)
    plan.keep.database()
    if plan.jobs == 1:
        runs = work(plan, say or (lambda line: None))
    else:
        with ProcessPoolExecutor(plan.jobs, get_context("spawn")) as pool:
            plans = [replace(plan, seed=plan.seed + job) for job in range(plan.jobs)]
            try:
                rows = list(pool.map(work if say is None else _work_aloud, plans))
            except BrokenProcessPool as error:
                wanted = f"{plan.jobs} processes to live to their end"
                raise CannotRunError(f"wanted {wanted}, found one killed; fewer --jobs need less memory") from error
        runs = [_merged(same) for same in zip(*rows, strict=True)]
    return Campaign(tuple(runs), installed(), plan.keep.place, plan.jobs)


def work(plan: Plan, say: Callable[[str], None] = lambda line: None) -> list[MachineRun]:
    """The plan's machines in this process."""
    prepare()
    database = plan.keep.database()
    told = [time.perf_counter()]

    def progress(so_far: MachineRun) -> None:
        if time.perf_counter() - told[0] >= _SECONDS_BETWEEN_LINES:
            told[0] = time.perf_counter()
            say(line_of(so_far))

    return [
        run(machine, plan.budget(), plan.seed, plan.faults, database, plan.dump_dir, progress)
        for machine in selected(plan.machines)
    ]


def line_of(so_far: MachineRun) -> str:
    """Progress in one line."""
    lacks = f", not yet: {' '.join(so_far.missing)}" if so_far.missing else ", all goals reached"
    rate = f"{so_far.steps} steps, {so_far.steps_per_second:.0f}/s, {so_far.share:.0%} inside sglang"
    return f"{so_far.machine} seed {so_far.seed}: {so_far.ran}, {rate}{lacks}"


def _work_aloud(plan: Plan) -> list[MachineRun]:
    return work(plan, lambda line: print(line, file=sys.stderr, flush=True))


def _merged(runs: Sequence[MachineRun]) -> MachineRun:
    """The same machine's runs under several seeds as one: the first failure, and a goal is missing only if no run
    reached it."""
    coverage, judged = Counter[str](), Counter[str]()
    for each in runs:
        coverage.update(each.coverage)
        judged.update(each.judged)
    seconds, total = max(each.seconds for each in runs), sum(each.seconds for each in runs)
    first = next((each for each in runs if each.failure), runs[0])
    return replace(
        first,
        examples=sum(each.examples for each in runs),
        broken_off=sum(each.broken_off for each in runs),
        steps=sum(each.steps for each in runs),
        seconds=seconds,
        inside=sum(each.inside for each in runs) / total * seconds if total else 0.0,
        coverage=dict(sorted(coverage.items())),
        judged=dict(sorted(judged.items())),
        missing=tuple(goal for goal in runs[0].missing if all(goal in each.missing for each in runs)),
    )
