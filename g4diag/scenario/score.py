"""How a run of a scenario is scored: what was found, named right, and left alone. Plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from g4diag.scenario.standing import Cell, LeftOut

Share = tuple[int, int]


@dataclass(frozen=True)
class Score:
    """(right, of) each; (0, 0) where the scenario has nothing of the kind, in states, or states and paths.

    found: the defect was there as the file says. named: the trap that should fire did. silent: a sound state did no
    damage and no trap fired. twin: the same, of the uses that no cure may break."""

    found: Share
    named: Share
    silent: Share
    twin: Share


@dataclass(frozen=True)
class Row:
    """One scenario of the scored table. verdict: "as expected", "NOT AS EXPECTED", "vacuous", "cannot run", "not there
    yet", "needs a GPU" or "failed". why: one line, for all but the first. score: None where there is no run to score.
    cell: how its bug stands here, None where no run said. left_out: its states that do not apply here."""

    scenario: str
    verdict: str
    seconds: float
    score: Score | None = None
    why: str = ""
    cell: Cell | None = None
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Board:
    """The scored table, in the order of the files."""

    rows: tuple[Row, ...]
    versions: dict[str, str | None]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 all as expected, 1 one was not, 4 one was vacuous, 3 one could not run. What needs a GPU, and was not run
        for that, and what the release is too old for counts as nothing; if there is nothing else, 3."""
        found = {row.verdict for row in self.rows}
        for verdicts, code in (
            ({"NOT AS EXPECTED", "failed"}, 1),
            ({"vacuous"}, 4),
            ({"cannot run"}, 3),
            ({"as expected"}, 0),
        ):
            if found & verdicts:
                return code
        return 3


def share(right: Iterable[bool]) -> Share:
    """How many are true, of how many."""
    rows = list(right)
    return sum(rows), len(rows)
