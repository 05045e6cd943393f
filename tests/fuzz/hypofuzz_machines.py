"""The machines as plain Hypothesis test cases, for `make hypofuzz`; pytest collects this file only when it is named.

Give it one class a run: it does not tear one class down before it sets the next one up. It runs no fixtures, so a
session is opened with a test's first example, in place of the one before, and is left open until the process ends.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from typing import Any

from hypothesis import HealthCheck, settings

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.replay import machines
from g4diag.fuzz.session import opened

_open: dict[str, ExitStack] = {}


def _in_a_session(machine: Machine) -> type[Any]:
    """The machine's class, which sees to its session."""

    def __init__(self: Any) -> None:
        if machine.name not in _open:
            for stack in _open.values():
                stack.close()
            _open.clear()
            _open[machine.name] = ExitStack()
            atexit.register(_open[machine.name].close)
            _open[machine.name].enter_context(opened(machine))
        machine.drives.__init__(self)

    return type(machine.drives.__name__, (machine.drives,), {"__module__": __name__, "__init__": __init__})


for _machine in machines().values():
    _case = _in_a_session(_machine).TestCase
    _case.settings = settings(
        deadline=None, stateful_step_count=_machine.steps, suppress_health_check=list(HealthCheck)
    )
    globals()[f"Test{_machine.drives.__name__}"] = _case
del _case
