"""What CI fuzzes: every machine, always the same examples, until every goal is reached, and one round at the least:
counted in examples, so that no machine is too slow. Four times the profile's at most: which examples come is another's
with each change of a machine, and a rare goal may come late."""

from __future__ import annotations

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.profiles import profile
from g4diag.fuzz.replay import machines
from g4diag.fuzz.runner import ROUND, Budget, run


@pytest.mark.parametrize("machine", machines().values(), ids=lambda machine: machine.name)
def test_every_goal_is_reached_and_nothing_breaks(machine: Machine) -> None:
    found = run(machine, Budget(4 * profile("ci").examples, enough=ROUND))
    assert found.failure is None
    assert not found.missing, found.coverage
