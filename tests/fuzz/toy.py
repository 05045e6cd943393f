"""A synthetic machine: a counter that should stay small, and breaks in the way it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import precondition

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.machine import FuzzMachine
from g4diag.fuzz.rules import initialize, rule
from g4diag.model import Allocation, IndexSpace, PoolView

POOL = PoolView("full", IndexSpace.FULL_PAGE, 1, 9)


class Toy(FuzzMachine):
    """limit: the count at which it breaks. how: "claim" of its own, "trap", or "call", an exception of the subject."""

    limit = 10_000
    how = "claim"

    @initialize()
    def start(self) -> None:
        self.count = 0

    @rule(by=st.integers(0, 1))
    def add(self, by: int) -> None:
        self.count += by
        self.cover("added", by)
        if self.count >= self.limit and self.how == "call":
            self.call(self.explode)
        if self.count >= self.limit and self.how == "trap":
            self.session.judge(Allocation("alloc", POOL, np.array([99], dtype=np.int64)))
        else:
            self.session.judge(Allocation("alloc", POOL, np.array([1], dtype=np.int64)))

    @rule()
    def reset(self) -> None:
        self.count = 0

    def explode(self) -> None:
        raise IndexError("past the end")

    def check(self) -> None:
        self.claim("stays_small", self.how != "claim" or getattr(self, "count", 0) < self.limit, "too many")


class Aiming(Toy):
    """It wants a high count."""

    def aim(self) -> dict[str, float]:
        return {"count": float(getattr(self, "count", 0)), "low": -float(getattr(self, "count", 0))}


class Choosy(Toy):
    """Each rule waits for the other: where Hypothesis leaves one of them out of an example, it gets stuck."""

    @rule()
    @precondition(lambda self: self.count < 1)
    def add(self) -> None:
        self.count = 1
        self.cover("added")
        self.session.judge(Allocation("alloc", POOL, np.array([1], dtype=np.int64)))

    @rule()
    @precondition(lambda self: self.count > 0)
    def reset(self) -> None:
        self.count = 0


class Once(Toy):
    """It breaks the first time that it may, and never again."""

    limit = 3
    broke = False

    @rule(by=st.integers(0, 1))
    def add(self, by: int) -> None:
        self.session.judge(Allocation("alloc", POOL, np.array([1], dtype=np.int64)))
        self.twice(by)

    @rule(by=st.integers(0, 1))
    def twice(self, by: int) -> None:
        """A rule that `add` calls too: part of that step."""
        self.count += by
        self.cover("added", by)

    def check(self) -> None:
        if getattr(self, "count", 0) >= self.limit and not Once.broke:
            Once.broke = True
            self.claim("stays_small", False, "too many")

    def evidence(self) -> dict[str, Any]:
        return {"pools": (POOL,) if self.count >= self.limit else ()}


def toy(goals: tuple[str, ...] = ("added",), base: type[Toy] = Toy, **attributes: Any) -> Machine:
    """The machine with other class attributes."""
    drives = type("Toy", (base,), {"__module__": __name__, **attributes})
    return Machine("toy", "a counter", drives, goals, oracle=("slot_inside_allocator",), steps=20)


def hows() -> Iterator[tuple[str, str]]:
    """how it breaks -> the claim that says so."""
    yield from {"claim": "model:stays_small", "trap": "slot_inside_allocator", "call": "model:call_returns"}.items()
