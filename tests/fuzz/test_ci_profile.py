"""What CI fuzzes: every machine, by the ci profile, always the same examples. A stack that is not the default one is
done when every goal is reached, after one round at the least: counted in examples, so that no machine is too slow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.profiles import profile
from g4diag.fuzz.replay import machines
from g4diag.fuzz.runner import ROUND, Budget, run
from g4diag.hooks.versions import version_of

DEFAULT_STACK = re.search(
    r'^stack = \["sglang==(.+)"\]$', (Path(__file__).parents[2] / "pyproject.toml").read_text(), re.M
)


@pytest.mark.parametrize("machine", machines().values(), ids=lambda machine: machine.name)
def test_every_goal_is_reached_and_nothing_breaks(machine: Machine) -> None:
    assert DEFAULT_STACK is not None
    is_default = version_of("sglang") == DEFAULT_STACK[1]
    found = run(machine, Budget(profile("ci").examples, enough=None if is_default else ROUND))
    assert found.failure is None
    assert not found.missing, found.coverage
