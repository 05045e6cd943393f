"""A scenario that drives single classes of sglang: its states, and what a run of them gives back. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from g4diag.errors import VacuousError
from g4diag.scenario.score import Score, share
from g4diag.scenario.standing import PATHS, Cell, LeftOut, Line, Where, cell_of

SILENT = "silent"


@dataclass(frozen=True)
class Drive:
    """One way to drive the classes. patches: applied for it, in order. hooks: makes hooks put on for it, where a cure
    has no patch of its own. lines: of the source that it relies on, and without which it is left out. twin: a use that
    the cure must not break. arguments: keywords of the drive's function.

    expected: "silent" (no damage, no trap), the name of the trap that fires, and no other, "raises" and an
    exception's name, or what the drive itself calls damage that no trap can see. where: outcomes expected in place of
    it where certain lines are in the source, the first that fits.
    """

    name: str
    what: str
    patches: tuple[str, ...] = ()
    expected: str = SILENT
    twin: bool = False
    hooks: Callable[[], tuple[Any, ...]] = tuple
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    where: tuple[Where, ...] = ()

    @property
    def as_released(self) -> bool:
        """Nothing is put back or cured."""
        return not self.patches and self.hooks is tuple

    def expecting(self, outcomes: Mapping[str, str]) -> Drive:
        """The same, with the outcome that is expected on the installed release, by path: a drive has one for both."""
        return replace(self, expected=outcomes.get(PATHS[0], self.expected))


@dataclass(frozen=True)
class Found:
    """What a drive counts by itself, not by a trap. checked: ids or steps looked at. damaged: those that are wrong.
    evidence: counts that must not be 0 for the drive to mean anything. called: what to call damage that no trap sees.
    says: one line of figures, for people. flags: of the server that it stands for, as a live dump names them;
    None where they do not matter."""

    checked: int
    damaged: int
    evidence: Mapping[str, int] = field(default_factory=dict)
    called: str = "unnamed"
    says: str = ""
    flags: Mapping[str, str] | None = None


@dataclass(frozen=True)
class DriveReading:
    """One row of the table. what: the state in a few words. judged: views that the scenario's traps had to judge, None
    where no trap is to be heard. traps: names that fired. outcome, expected: as in `Drive`. error: what the drive
    raised."""

    state: str
    twin: bool
    checked: int
    damaged: int
    judged: int | None
    traps: tuple[str, ...]
    outcome: str
    expected: str
    evidence: Mapping[str, int] = field(default_factory=dict)
    says: str = ""
    error: str = ""
    what: str = ""
    as_released: bool = False

    @property
    def as_expected(self) -> bool:
        """Whether the state behaved as its file says it does."""
        return self.outcome == self.expected

    @property
    def harmless(self) -> bool:
        """No damage, and no trap."""
        return self.outcome == SILENT

    @property
    def told(self) -> str:
        """One line: what came of it, the drive's own figures, and what came up."""
        if self.error:
            return f"{self.state}: raises {self.error}"
        counts = {} if self.judged is None else {"view judged": self.judged}
        grounds = ", ".join(f"{name} {count}" for name, count in (counts | dict(self.evidence)).items())
        return "; ".join(filter(None, (f"{self.state}: {self.outcome}", self.says, grounds)))

    @property
    def missing(self) -> str:
        """What never came up, "" if all did. A drive that raised said something, whatever it had done by then."""
        if self.error:
            return ""
        if not self.checked:
            return "nothing was checked"
        if self.judged == 0:
            return "no view came to the trap"
        return next((f"no {name}" for name, count in self.evidence.items() if not count), "")


@dataclass(frozen=True)
class DriveOutcome:
    """A whole run. upstream: threads and releases of the bug. faults: fault states that were put back for it.
    lines: what the verdict analyzer says of the first state that has one. dumps: state -> file. seconds: wall time by
    state. left_out: states that do not apply here. too_early: what says that the release is older than the bug."""

    scenario: str
    versions: dict[str, str | None]
    faults: tuple[str, ...]
    readings: tuple[DriveReading, ...]
    lines: tuple[str, ...] = ()
    dumps: dict[str, Path] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    upstream: str = ""
    left_out: tuple[LeftOut, ...] = ()
    too_early: str = ""

    @property
    def as_expected(self) -> bool:
        """Every state."""
        return all(reading.as_expected for reading in self.readings)

    @property
    def cell(self) -> Cell | None:
        """How the bug stands in what is installed; None if no state of this run says."""
        return cell_of(self.readings, self.too_early)

    @property
    def score(self) -> Score:
        """In states. What raises, or does damage that no trap can see, has no trap to be named by."""
        bad = [reading for reading in self.readings if reading.expected != SILENT]
        sound = [reading for reading in self.readings if reading.expected == SILENT]
        return Score(
            found=share(bool(r.damaged or r.error) for r in bad),
            named=share(r.as_expected for r in bad if r.judged is not None),
            silent=share(r.as_expected for r in sound if not r.twin),
            twin=share(r.as_expected for r in sound if r.twin),
        )

    def require_substance(self) -> None:
        """Raise VacuousError naming the first state that exercised nothing."""
        for reading in self.readings:
            if reading.missing:
                raise VacuousError(f"{self.scenario}: vacuous at {reading.state}: {reading.missing}")
