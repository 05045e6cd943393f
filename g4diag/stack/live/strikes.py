"""A trap that fails, or takes long, is said so a few times and then disarmed: a server does not pay for our mistakes at
every step, nor does its log fill with them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

    @contextmanager
    def watched(self, name: str, doing: str) -> Iterator[None]:
        """What is done in here on behalf of it: an error is logged, as `guard` does, and counted; so is the time."""
        began, failed = self._clock(), True
        with guard(doing):
            try:
                yield
                failed = False
            finally:
                self._count(name, failed, self._clock() - began)

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
