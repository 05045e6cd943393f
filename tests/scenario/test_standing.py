"""How a bug stands, from readings made up for it."""

from __future__ import annotations

import pytest

from g4diag.scenario import SILENT, DriveOutcome, DriveReading

TRAP, OLD = "free_of_live_only", "wanted 'x' once in y, found z"


def reading(
    state: str, outcome: str, expected: str = "", *, released: bool = True, twin: bool = False, error: str = ""
) -> DriveReading:
    evidence = {"slot mapped": 3}
    wanted = expected or outcome
    return DriveReading(state, twin, 4, 0, 2, (), outcome, wanted, evidence, "4 slots", error, as_released=released)


SOUND = reading("upstream", SILENT)
HARMED = reading("upstream", TRAP)


@pytest.mark.parametrize(
    ("readings", "too_early", "standing", "why"),
    [
        ([SOUND], "", "cured", "upstream: silent; 4 slots; view judged 2, slot mapped 3"),
        ([SOUND], OLD, "not there yet", f"upstream: silent; 4 slots; view judged 2, slot mapped 3; {OLD}"),
        ([HARMED], "", "alive", f"upstream: {TRAP}; 4 slots"),
        ([HARMED], OLD, "alive", f"upstream: {TRAP}"),  # whatever the text says, it was seen
        ([SOUND, reading("eager", TRAP)], "", "alive", f"eager: {TRAP}"),
        # Damage that nobody expected is damage; an exception that nobody expected is a driver that does not fit.
        ([reading("upstream", TRAP, SILENT)], "", "alive", f"upstream: {TRAP}"),
        (
            [reading("upstream", "raises TypeError", error="TypeError: no")],
            "",
            "alive",
            "upstream: raises TypeError: no",
        ),
        ([reading("upstream", "raises TypeError", SILENT, error="TypeError: no")], "", "cannot run", "TypeError: no"),
        # Of what was put back, and of the twin, it says nothing.
        ([SOUND, reading("faulty", TRAP, released=False), reading("twin", TRAP, twin=True)], "", "cured", "upstream"),
    ],
)
def test_the_release_as_it_is_says_how_the_bug_stands(
    readings: list[DriveReading], too_early: str, standing: str, why: str
) -> None:
    cell = DriveOutcome("made", {}, (), tuple(readings), too_early=too_early).cell
    assert cell is not None and cell.standing == standing and why in cell.why


@pytest.mark.parametrize(
    "readings", [[], [reading("faulty", TRAP, released=False)], [reading("twin", SILENT, twin=True)]]
)
def test_without_a_reading_of_it_nothing_is_said(readings: list[DriveReading]) -> None:
    assert DriveOutcome("made", {}, (), tuple(readings)).cell is None
