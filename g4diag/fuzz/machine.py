"""The base of every machine: a Hypothesis state machine that is part of a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import event, target
from hypothesis.control import current_build_context, currently_in_test_context
from hypothesis.stateful import RuleBasedStateMachine, invariant

from g4diag.errors import G4DiagError
from g4diag.fuzz.contract import page_size_counter
from g4diag.fuzz.session import current


class FuzzMachine(RuleBasedStateMachine):
    """A rule calls sglang through `call`, says what must hold through `claim`, and counts what it reached through
    `cover`. `check` holds after every step. Outside Hypothesis the same methods replay a program."""

    def __init__(self) -> None:
        super().__init__()
        self.session = current()
        self.session.begin()
        self.session.subject = self
        self.reached: dict[str, int] = {}

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """sglang's function on these arguments. Raises Broken if its views do not hold, or if it raises."""
        try:
            result = self.session.timed(function, *args, **kwargs)
        except G4DiagError:
            raise
        except Exception as error:
            self.session.conclude()
            name = getattr(function, "__name__", type(function).__name__)
            self.session.fail("model:call_returns", f"{name} raised {type(error).__name__}: {error}")
        if self.session.violations:
            self.session.conclude()
        return result

    def claim(self, name: str, holds: bool, text: str | Callable[[], str]) -> None:
        """Raise Broken as `model:<name>` unless it holds. text: what is wrong, or a function that says it."""
        if not holds:
            self.session.fail(f"model:{name}", text if isinstance(text, str) else text())

    def cover(self, counter: str, count: int = 1) -> None:
        """Count that `counter` was reached."""
        if count:
            reached, count = self.reached, int(count)
            reached[counter] = reached.get(counter, 0) + count
            self.session.cover(counter, count)

    def cover_page_size(self, page_size: int) -> None:
        """Count that this example has this page size."""
        self.cover(page_size_counter(page_size))

    @invariant()
    def holds(self) -> None:
        """One step is over: everything that must hold."""
        self.session.step()
        self.session.conclude()
        self.check()

    def check(self) -> None:
        """What must hold after every step; claims."""

    def evidence(self) -> dict[str, Any]:
        """Fields of the Incident that a dump of this moment holds beside the views: pools, mapping, requests."""
        return {}

    def aim(self) -> dict[str, float]:
        """Quantities for Hypothesis to drive up, by name."""
        return {}

    def teardown(self) -> None:
        if not currently_in_test_context():
            return
        if current_build_context().data.frozen:
            # None of the rules switched on for it may run now, or a program made of another ran out of choices.
            self.session.break_off()
        for counter in self.reached:
            event(f"reached {counter}")
        for name, value in self.aim().items():
            target(value, label=name)
