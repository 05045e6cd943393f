"""A shrunk program: from what Hypothesis prints to steps, and from steps to a file that pytest runs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from g4diag.model.campaign import Failure

_CALL = re.compile(r"(?:\w+(?:, \w+)* = )?state\.\w+\(")


def steps_of(notes: Sequence[str]) -> tuple[str, ...]:
    """The calls on `state` among the lines Hypothesis attached to a failure, made runnable: what it prints for the
    invariant after each step is left out, but for the one that failed, which is the last."""
    lines = [line.strip() for note in notes for line in _joined(note)]
    calls = [line for line in lines if _CALL.match(line) and line != "state.teardown()"]
    return tuple(line for i, line in enumerate(calls) if line != "state.holds()" or i == len(calls) - 1)


def _joined(note: str) -> list[str]:
    """Logical lines: a long call is printed over several."""
    joined: list[str] = []
    depth = 0
    for line in note.splitlines():
        if depth > 0:
            joined[-1] += line.strip()
        else:
            joined.append(line)
        depth += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
    return joined


def as_test(machine: str, faults: Sequence[str], failure: Failure) -> str:
    """The text of a pytest file that replays the failure's program; it fails for as long as the claim is broken."""
    put_in = f", faults={list(faults)!r}" if faults else ""
    program = "\n".join(f"        {step}" for step in failure.program)
    says = f"{failure.claim}: {failure.text}".replace("\\", "\\\\").replace('"""', "'''")
    shrunk = f"shrunk to {failure.length} steps" if failure.repeats else f"{failure.length} steps, not shrunk"
    holds = "Run it by itself or with pytest: it fails for as long as that holds."
    once = "It broke once and held when the same steps were run again: something beside the steps decides it."
    return f'''"""Found by `g4diag fuzz {machine}`, {shrunk}: {says}

{holds if failure.repeats else once}
"""

from g4diag.fuzz.replay import replaying


def test_replay() -> None:
    with replaying({machine!r}{put_in}) as state:
{program}


if __name__ == "__main__":
    test_replay()
'''
