"""A strategy whose values are those that the running machine can be asked for: one draw, and a choice a number.

Hypothesis's own for it, `runner().flatmap(...)`, makes three draws and more, each with a span, a label and a check of
the strategy, which is most of what a draw costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hypothesis.internal.conjecture.data import ConjectureData
from hypothesis.internal.conjecture.utils import calc_label_from_name
from hypothesis.strategies import SearchStrategy

Value = TypeVar("Value")
Number = Callable[[int], int]  # n, at least 1 -> a choice of 0 .. n - 1, which shrinks to 0


class OfMachine(SearchStrategy[Value], Generic[Value]):
    """name: of the kind of values; what is drawn under one name may take another's place when examples are changed.
    drawn: (machine, number) -> a plain value, whatever numbers are chosen."""

    def __init__(self, name: str, drawn: Callable[[Any, Number], Value]) -> None:
        super().__init__()
        self._name, self._drawn = name, drawn

    def do_draw(self, data: ConjectureData) -> Value:
        return self._drawn(data.hypothesis_runner, lambda n: data.draw_integer(0, n - 1))

    def calc_label(self) -> int:
        return calc_label_from_name(f"g4diag {self._name}")

    def __repr__(self) -> str:
        return f"{self._name}()"
