"""Rules of a machine: Hypothesis's own, which also write down in the session what they were called with.

Hypothesis prints the program of a failure that comes again. Of one that does not, this is the only record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from hypothesis import stateful

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def rule(**arguments: Any) -> Decorator:
    """hypothesis.stateful.rule. arguments: a strategy each."""
    decorate: Decorator = stateful.rule(**arguments)
    return lambda function: decorate(_written_down(function))


def initialize(**arguments: Any) -> Decorator:
    """hypothesis.stateful.initialize. arguments: a strategy each."""
    decorate: Decorator = stateful.initialize(**arguments)
    return lambda function: decorate(_written_down(function))


def _written_down(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def called(machine: Any, *args: Any, **drawn: Any) -> None:
        with machine.session.in_rule(function.__name__, drawn):
            function(machine, *args, **drawn)

    return called
