"""Every machine file is well formed: it names traps that exist, goals, and a class with steps."""

from __future__ import annotations

import pytest

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.machine import FuzzMachine
from g4diag.fuzz.program import steps_of
from g4diag.fuzz.replay import machines
from g4diag.stack.live.selection import traps

MACHINES = machines()


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_a_machine_says_what_it_needs(machine: Machine) -> None:
    assert issubclass(machine.drives, FuzzMachine)
    assert machine.goals and set(machine.oracle) <= set(traps())
    assert machine.subject and machine.steps > 0


def test_steps_keep_the_invariant_that_failed_and_no_other() -> None:
    printed = "state = M()\nstate.start(\n    a=[1,\n       2],\n)\nstate.holds()\nv1 = state.go()\nstate.holds()\n"
    assert steps_of([printed, "state.teardown()"]) == ("state.start(a=[1,2],)", "v1 = state.go()", "state.holds()")
    assert steps_of(["Failing test case:", "state = M()", "state.holds()", "state.go()"]) == ("state.go()",)
