"""What a minimisation comes to: plain values that `minimize` makes and the reports render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Sizes = Mapping[str, int | float]  # keywords of `g4diag.stack.drive.serving.Geometry`


@dataclass(frozen=True)
class Case:
    """One run of a scenario's state at some sizes. signature: the one looked for if a violation has it, else that of
    the violation that leads, "" if no trap fired. line: what the verdict says of that violation. step: the draft step
    it was seen at, None if it has none. traps: names that fired. checked: live page-table entries that the draft was
    handed; divergent: those whose full and SWA page differ. error: the first exception of a draft."""

    signature: str
    line: str
    traps: tuple[str, ...]
    step: int | None
    checked: int
    divergent: int
    error: str = ""

    @property
    def silent(self) -> bool:
        """Entries were checked, no trap fired and nothing was raised."""
        return self.checked > 0 and not self.traps and not self.error


@dataclass(frozen=True)
class Target:
    """What is made smaller. healthy: the state of the same scenario, on the same draft, that must stay silent.
    faults: fault states that are put back. sizes: where to begin. source: what these were taken from."""

    scenario: str
    state: str
    healthy: str
    seed: int
    signature: str
    faults: tuple[str, ...]
    sizes: Sizes
    source: str


@dataclass(frozen=True)
class Reduction:
    """The smallest case found. before, after: sizes. tried: candidates run; known: those that an earlier run
    had answered; smaller: steps down. stopped: "" if no size can be less by one, else what ended the search first.
    test: the pytest file. state_file: kept where there is more to do."""

    target: Target
    versions: Mapping[str, str | None]
    after: Sizes
    broken: Case
    sound: Case
    tried: int
    known: int
    smaller: int
    seconds: float
    stopped: str
    test: Path
    state_file: Path | None

    @property
    def before(self) -> Sizes:
        """Where it began."""
        return self.target.sizes

    @property
    def exit_code(self) -> int:
        """0, or 130 where a person ended it: what was found until then is written all the same."""
        return 130 if self.stopped == "interrupted" else 0
