"""One minimisation: a target, a search with a budget and a memory, and the test it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g4diag.errors import G4DiagError, VacuousError
from g4diag.minimize import emit
from g4diag.minimize.case import Runner, served
from g4diag.minimize.memory import Memory
from g4diag.minimize.search import Point, shrink
from g4diag.minimize.sizes import AXES, TOGETHER, is_legal, point_of, sizes_of
from g4diag.model.reduction import Case, Reduction, Target

Say = Callable[[str, bool], None]  # a line, and whether it tells of a smaller case


def reduce(
    target: Target, run: Runner, *, out: Path, seconds: float, resume: bool, say: Say = lambda text, smaller: None
) -> Reduction:
    """Shrink the target for at most `seconds` and write the test to `out`; so too when interrupted from the keyboard.
    resume: go on with the answers in the state file beside it.

    Raises UsageError for `out` or a state file of something else, VacuousError where the healthy state is not silent.
    """
    from g4diag.hooks.versions import installed

    emit.require_ours(out)
    versions, start = installed(), time.monotonic()
    memory = Memory(state_file(out), _header(target, versions), resume=resume)
    known = len(memory)
    trial = _Trial(target, run, memory, start + seconds, say, point_of(target.sizes), out)
    stopped = trial.go()
    broken, sound = trial.last()
    if not stopped:
        memory.forget()
    return Reduction(
        target=target,
        versions=versions,
        after=sizes_of(trial.best),
        broken=broken,
        sound=sound,
        tried=trial.tried,
        known=known,
        smaller=trial.smaller,
        seconds=time.monotonic() - start,
        stopped=stopped,
        test=out,
        state_file=memory.path if stopped else None,
    )


def state_file(out: Path) -> Path:
    """Where the answers of a search that writes to `out` are kept until it is over."""
    return out.with_name(f".{out.stem}.minimize.jsonl")


class _OutOfTime(Exception):
    """The budget is spent."""


@dataclass
class _Trial:
    """The search's questions, answered by running the real classes. best: the smallest point so far."""

    target: Target
    run: Runner
    memory: Memory
    ends: float
    say: Say
    best: Point
    out: Path
    tried: int = 0
    smaller: int = 0
    cases: tuple[Point, Case, Case] | None = None  # of the last point that broke in the same way

    def go(self) -> str:
        """Search; "" when it is over, else what ended it."""
        begin = dict(self.best)
        try:
            if not self.ask(begin):
                self.memory.forget()
                raise self._nothing()
            self.found(begin, first=True)
            shrink(begin, self.ask, together=TOGETHER, axes=AXES, found=self.found)
        except _OutOfTime:
            return "out of time"
        except KeyboardInterrupt:
            return "interrupted"
        return ""

    def ask(self, point: Point) -> bool:
        """Whether it breaks in the same way here, and does not without the fault."""
        if not is_legal(point):
            return False
        if (answer := self.memory.get(point)) is not None:
            return answer
        if time.monotonic() > self.ends:
            raise _OutOfTime
        answer = self._holds(point)
        self.tried += 1
        self.memory.put(point, answer)
        self._say("smaller" if answer else "not this one", False)
        return answer

    def found(self, point: Point, first: bool = False) -> None:
        """Take it as the best, and write its test: whatever ends the search, that is there."""
        changed = [name for name in point if point[name] != self.best[name]]
        changes = ", ".join(f"{name} {self.best[name]} -> {point[name]}" for name in changed)
        self.best = dict(point)
        if self.cases is not None and self.cases[0] == point:
            self._write()
        if not first:
            self.smaller += 1
            self._say(changes, True)

    def last(self) -> tuple[Case, Case]:
        """The runs of the best, faulty and healthy, and its test written. VacuousError if it is not there again."""
        if self.cases is None or self.cases[0] != self.best:
            if not self._holds(self.best):
                raise self._nothing()
            self._write()
        assert self.cases is not None
        return self.cases[1:]

    def _holds(self, point: Point) -> bool:
        scenario, sizes, wanted = served(self.target.scenario), sizes_of(point), self.target.signature
        faulty, healthy = (scenario.selected((name,))[0] for name in (self.target.state, self.target.healthy))
        try:
            broken = self.run(faulty, sizes, self.target.seed, wanted)
            if broken.signature != wanted:
                return False
            sound = self.run(healthy, sizes, self.target.seed, "")
        except G4DiagError:
            raise
        except Exception:  # what sglang cannot serve, or not at these sizes, is not the case wanted
            return False
        if sound.silent:
            self.cases = (dict(point), broken, sound)
        return sound.silent

    def _write(self) -> None:
        assert self.cases is not None
        point, _, sound = self.cases
        emit.write(self.out, emit.as_test(self.target, sizes_of(point), sound))

    def _say(self, text: str, smaller: bool) -> None:
        left = max(0.0, self.ends - time.monotonic())
        self.say(f"[{self.tried} tried, {left:.0f} s left] {text}", smaller)

    def _nothing(self) -> VacuousError:
        target = self.target
        wanted = f"{target.scenario}: wanted {target.state} to break as {target.signature} and {target.healthy} silent"
        return VacuousError(f"{wanted}, found it otherwise")


def _header(target: Target, versions: dict[str, str | None]) -> dict[str, Any]:
    """What an answer depends on."""
    return {
        "scenario": target.scenario,
        "state": target.state,
        "healthy": target.healthy,
        "seed": target.seed,
        "signature": target.signature,
        "sizes": dict(target.sizes),
        "versions": {name: versions[name] for name in ("sglang", "torch", "g4diag")},
    }
