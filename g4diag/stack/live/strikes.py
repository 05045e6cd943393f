"""A trap that fails, or takes long, is said so a few times and then disarmed: a server does not pay for our mistakes at
every step, nor does its log fill with them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from g4diag.guard import guard

logger = logging.getLogger("g4diag")

MOST = 3
# Of processor time of this thread for one judgement: it takes well below a millisecond, and waits for nothing.
SECONDS = 0.5


class Strikes:
    """Of each name. clock: seconds of work done so far."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._failed: Counter[str] = Counter()
        self._slow: Counter[str] = Counter()
        self._out: set[str] = set()

    def is_out(self, name: str) -> bool:
        """Whether it is disarmed."""
        return name in self._out

    def watched(self, name: str, doing: str) -> _Watched:
        """What is done in here on behalf of it: an error is logged, as `guard` does, and counted; so is the time."""
        return _Watched(self, name, doing)

    def ended(self, name: str, failed: bool, seconds: float) -> None:
        """One judgement of it. Nearly all neither fail nor take long."""
        if failed or seconds > SECONDS:
            self._count(name, failed, seconds)

    def now(self) -> float:
        """Seconds of work done so far."""
        return self._clock()

    def _count(self, name: str, failed: bool, seconds: float) -> None:
        self._failed[name] += failed
        self._slow[name] += seconds > SECONDS
        if name in self._out:
            return
        if self._failed[name] >= MOST:
            self._drop(name, f"it failed {MOST} times")
        elif self._slow[name] >= MOST:
            self._drop(name, f"it took more than {SECONDS:g} s {MOST} times, {seconds:.2f} s the last")

    def _drop(self, name: str, why: str) -> None:
        self._out.add(name)
        logger.error("g4diag: %s disarmed in this process, the server goes on: %s", name, why)


class _Watched:
    """A class, not a generator: a server makes several views a step, each for several traps."""

    __slots__ = ("_began", "_doing", "_name", "_strikes")

    def __init__(self, strikes: Strikes, name: str, doing: str) -> None:
        self._strikes, self._name, self._doing = strikes, name, doing

    def __enter__(self) -> None:
        self._began = self._strikes.now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._strikes.ended(self._name, error is not None, self._strikes.now() - self._began)
        return error is not None and guard(self._doing).__exit__(kind, error, traceback)
