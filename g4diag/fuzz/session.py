"""One machine's surroundings while it runs: faults in, probes on, traps as the oracle, counters and a stopwatch.

There is one session a process at a time, and every FuzzMachine made meanwhile is part of it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import reject

from g4diag import guard
from g4diag.errors import G4DiagError, UsageError, unknown
from g4diag.fuzz.contract import Machine
from g4diag.hooks.install import Hook
from g4diag.model import View, Violation, by_field
from g4diag.traps.contract import Trap, nothing
from g4diag.verdict import precedence

VIEWS_KEPT = 64
_clock = time.perf_counter


class Broken(AssertionError):
    """A claim does not hold. claim: a trap's name, or `model:<claim>`."""

    def __init__(self, claim: str, text: str) -> None:
        super().__init__(f"{claim}: {text}")
        self.claim, self.text = claim, text


class ProbeFailed(G4DiagError):
    """A probe or trap of ours raised. Not sglang's doing, and not to be taken for it."""


@dataclass(frozen=True)
class FirstFailure:
    """A claim as it was first seen broken: after how many steps, at which time.perf_counter(), by which program, what
    else that broke, and what an Incident of that moment holds."""

    claim: str
    text: str
    steps: int
    at: float
    program: tuple[str, ...]
    violations: tuple[Violation, ...]
    seen: dict[str, Any]


_Judge = tuple[Callable[[Any], Iterable[Violation]], Callable[[Any], str] | None, str]


def _judge_of(trap: Trap) -> _Judge:
    """(judge, needs, name). needs: None where the trap has all it needs in any view."""
    return trap.judge, None if trap.needs is nothing else trap.needs, trap.name


class Session:
    """traps: the oracle. Counters run until the first failure and stop there: shrinking is not fuzzing."""

    def __init__(self, machine: Machine, traps: Sequence[Trap]) -> None:
        self.machine, self.traps = machine, tuple(traps)
        self.books: dict[str, Any] = {book.name: book for book in machine.books()}
        self.examples = self.broken_off = self.steps = 0
        self.inside = 0.0
        self.coverage: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()
        self.first: FirstFailure | None = None
        self.manifest: dict[str, list[str]] = {}
        self._judges: dict[type, tuple[_Judge, ...]] = {}
        self._clear()

    def begin(self) -> None:
        """A new example."""
        self._clear()
        if self.first is None:
            self.examples += 1

    def break_off(self) -> None:
        """Hypothesis gave the example up before its end: it is none of those asked for, though its steps ran."""
        if self.first is None:
            self.examples -= 1
            self.broken_off += 1

    def _clear(self) -> None:
        self.views: deque[View] = deque(maxlen=VIEWS_KEPT)
        self.violations: list[Violation] = []
        self.subject: Any = None
        self.program: list[str] = []
        self._in_rule = False
        self._probing = 0.0

    @contextmanager
    def in_rule(self, name: str, drawn: dict[str, Any]) -> Iterator[None]:
        """The body is that rule, called with what was drawn; a rule that it calls by itself is part of it."""
        outer, self._in_rule = self._in_rule, True
        if not outer:
            self.program.append(f"state.{name}({', '.join(f'{key}={value!r}' for key, value in drawn.items())})")
        try:
            yield
        finally:
            self._in_rule = outer

    def step(self) -> None:
        """One rule has run."""
        if self.first is None:
            self.steps += 1

    def cover(self, counter: str, count: int = 1) -> None:
        """`counter` was reached, so many times."""
        if self.first is None:
            self.coverage[counter] += count

    def judge(self, view: View) -> None:
        """Let the oracle see a view. What it finds is raised by `conclude`, not from within sglang's call."""
        self.views.append(view)
        kind = type(view)
        if (judges := self._judges.get(kind)) is None:
            judges = self._judges[kind] = tuple(_judge_of(trap) for trap in self.traps if issubclass(kind, trap.judges))
        found, counts, judged = self.violations, self.first is None, self.judged
        for judge, needs, name in judges:
            found.extend(judge(view))
            if counts and (needs is None or not needs(view)):  # or it is shown and not judged
                judged[name] += 1

    def conclude(self) -> None:
        """Raise a violation since the example began, if there is one: the one a report would put first."""
        if self.violations:
            leading = min(self.violations, key=precedence)
            self.fail(leading.trap, leading.summary)

    def fail(self, claim: str, text: str) -> None:
        """Raise Broken. Once one claim was seen broken, an example that breaks another is set aside: shrinking must
        not slip from one defect to the next."""
        if self.first is None:
            at, last = time.perf_counter(), () if self._in_rule else ("state.holds()",)
            self.first = FirstFailure(
                claim, text, self.steps, at, (*self.program, *last), tuple(self.violations), self.seen()
            )
        elif self.first.claim != claim:
            reject()
        raise Broken(claim, text)

    def seen(self) -> dict[str, Any]:
        """Fields of an Incident: the last views, and what the machine shows of its state."""
        shown: dict[str, Any] = {} if self.subject is None else self.subject.evidence()
        return by_field(self.views) | shown

    def timed(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """sglang's call: its time, less that of our probes within it, counts as inside."""
        before, start = self._probing, _clock()
        try:
            return function(*args, **kwargs)
        finally:
            if self.first is None:
                self.inside += _clock() - start - (self._probing - before)

    def outside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose time is ours even when sglang calls it."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = _clock()
            try:
                return function(*args, **kwargs)
            except Exception as error:
                raise ProbeFailed(f"a probe failed: {type(error).__name__}: {error}") from error
            finally:
                self._probing += _clock() - start

        return call

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As `outside` for a function that is handed sglang's original first: the original's time, and what it raises,
        are sglang's."""

        def call(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            theirs: list[Exception] = []

            def timed_original(*args: Any, **kwargs: Any) -> Any:
                start = time.perf_counter()
                try:
                    return original(*args, **kwargs)
                except Exception as error:
                    theirs.append(error)
                    raise
                finally:
                    self._probing -= time.perf_counter() - start

            try:
                return self.outside(function)(timed_original, *args, **kwargs)
            except ProbeFailed as failed:
                if theirs and failed.__cause__ is theirs[-1]:
                    raise theirs[-1] from None
                raise

        return call

    def hooks(self) -> list[Hook]:
        """The machine's books and probes, clocked."""
        clock = {"around": self.around}
        books = [hook for book in self.books.values() for hook in book.hooks()]
        probes = [*books, *self.machine.probes(self.judge, self.books)]
        return [replace(hook, function=clock.get(hook.kind, self.outside)(hook.function)) for hook in probes]

    def missing(self) -> tuple[str, ...]:
        """Goals never reached and traps that judged nothing."""
        goals = [goal for goal in self.machine.wanted if not self.coverage[goal]]
        return (*goals, *(f"judged by {trap.name}" for trap in self.traps if not self.judged[trap.name]))


_sessions: list[Session] = []


def current() -> Session:
    """The session that is open."""
    if not _sessions:
        raise UsageError("a machine runs in a session: wanted `with opened(MACHINE):` around it, found none")
    return _sessions[-1]


@contextmanager
def opened(machine: Machine, faults: Sequence[str] = ()) -> Iterator[Session]:
    """A session for the body. faults: patches of that kind to put in. UsageError for a name that is none;
    CannotRunError without this sglang."""
    prepare()
    from g4diag.hooks.install import install
    from g4diag.hooks.manifest import armed_manifest, recorded
    from g4diag.patches.applying import applied
    from g4diag.stack.live.selection import traps

    check_faults(faults)
    known = traps()
    if unknown := [name for name in machine.oracle if name not in known]:
        raise UsageError(f"{machine.name}: wanted traps of {', '.join(known)}, found {unknown[0]!r}")
    session = Session(machine, [known[name] for name in machine.oracle])
    with (
        applied(faults),
        machine.surroundings(),
        install("g4diag fuzz", session.hooks()),
        recorded("traps", machine.oracle),
    ):
        session.manifest = armed_manifest()
        _sessions.append(session)
        was_raising = guard.set_raising(True)
        try:
            yield session
        finally:
            guard.set_raising(was_raising)
            _sessions.remove(session)


def prepare() -> None:
    """Make this process fit to drive sglang on the CPU. CannotRunError if it cannot be."""
    from g4diag.stack import releases
    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.driver import require_fuzzing

    releases.require()
    require_fuzzing()
    cpu.prepare_environment()
    # Tensors are tiny: a second thread only waits at barriers.
    cpu.use_one_thread()


def check_faults(names: Sequence[str]) -> None:
    """UsageError unless each is a patch that puts a bug back."""
    from g4diag.patches.applying import patches

    known = [patch.name for patch in patches().values() if patch.kind == "fault"]
    for name in names:
        if name not in known:
            raise unknown("fault", name, known)
