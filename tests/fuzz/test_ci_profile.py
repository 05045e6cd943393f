"""What CI fuzzes: every machine, by the ci profile, always the same examples."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.profiles import profile
from g4diag.fuzz.replay import machines
from g4diag.fuzz.runner import Budget, run


@pytest.mark.parametrize("machine", machines().values(), ids=lambda machine: machine.name)
def test_every_goal_is_reached_and_nothing_breaks(machine: Machine) -> None:
    found = run(machine, Budget(profile("ci").examples))
    assert found.failure is None
    assert not found.missing, found.coverage
