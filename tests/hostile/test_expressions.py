"""No regular expression of ours costs more than in proportion to the text, or a hostile line could hang a reader."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import expressions, time_expressions

HERE = Path(__file__).parent


def test_each_is_linear() -> None:
    """All that the code compiles, found by looking at it: a new one is timed without being listed."""
    found = subprocess.run(
        [sys.executable, str(HERE / "expressions.py")], capture_output=True, text=True, timeout=120, check=True
    )
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    homes = {where.split(":")[0] for _, _, where, _ in rows}
    assert len(rows) >= 200 and {"g4diag.logs.reading", "g4diag.analyzers.issues", "g4diag.dump.secrets"} <= homes
    command = [sys.executable, str(HERE / "time_expressions.py")]
    timed = subprocess.run(command, input=found.stdout, capture_output=True, text=True, timeout=300, check=True)
    *slow, last = timed.stdout.splitlines()
    assert json.loads(last) == {"timed": len(rows)} and not slow, "\n".join(slow)


# Put together from words of ours, each escaped, or from patterns that are timed. A person reads a new one.
_ASSEMBLED = ("g4diag.dump.secrets", "g4diag.logs.kernels", "g4diag.logs.reading", "g4diag.servers.crash_log")


def test_what_is_put_together_inside_a_function_is_known() -> None:
    assert {place.split(":")[0] for place in expressions.unseen()} <= set(_ASSEMBLED)


@pytest.mark.parametrize("pattern", [r"^\s*\S+Error", r"in (\S.*?) at", r"(\w+\s*)*$", r"a.*b.*c"])
def test_what_costs_the_square_is_seen(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no complaint would prove nothing."""
    monkeypatch.setattr(time_expressions, "MOST", 0.2)
    time_expressions.arm()
    flags = int(re.compile(pattern, re.MULTILINE).flags)
    # On a busy machine clock readings may be off.
    assert any(time_expressions.slow(pattern, flags, searched=True) for _ in range(8))
