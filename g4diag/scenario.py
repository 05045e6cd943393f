"""What every scenario file under `repro/` declares, and what a run of one gives back. Plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g4diag.errors import UsageError, VacuousError
from g4diag.model import Violation

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class State:
    """One way to run the scenario. patches: applied for it, in order. twin: uses the draft it must not break.
    eager, graph: the expected outcome of each path: "equal", "faults" or "wrong".

    equal: the truth bit for bit, no trap fired. faults: some page ids leave the pool, others are wrong in range.
    wrong: none leaves the pool and the K/V read is wrong.
    """

    name: str
    what: str
    patches: tuple[str, ...]
    eager: str
    graph: str
    twin: bool = False


@dataclass(frozen=True)
class Options:
    """What the command line may change. Sizes in tokens; None: the scenario's default. states: names, empty: all."""

    seed: int = 0
    states: tuple[str, ...] = ()
    requests: int | None = None
    page_size: int | None = None
    ratio: float | None = None
    window: int | None = None
    chunk: int | None = None
    dump_dir: Path | None = None


@dataclass(frozen=True)
class Reading:
    """One row of the table: a state on a path. Counts are entries of page tables the draft was handed.

    swa_use: peak, 0..1. relative_error: mean over rows whose attention output differs from the truth, else 0.0.
    agreement: share of draft tokens equal to the truth's, None if every row would have faulted.
    traps: names that fired, on this path or on the state's pool swaps. outcome, expected: "equal", "faults", "wrong".
    """

    state: str
    path: str
    swa_use: float
    checked: int
    divergent: int
    out_of_range: int
    wrong_in_range: int
    largest: int
    bound: int
    relative_error: float
    agreement: float | None
    rows_faulted: int
    traps: tuple[str, ...]
    outcome: str
    expected: str

    @property
    def as_expected(self) -> bool:
        """Whether the state behaved as its file says it does."""
        return self.outcome == self.expected

    @property
    def vacuous(self) -> bool:
        """Nothing was checked, or the two index spaces never diverged: the outcome says nothing."""
        return self.checked == 0 or self.divergent == 0


@dataclass(frozen=True)
class Outcome:
    """A whole run. faults: fault states that were put back for it. first: the first bad read of the faulty state,
    lines: what the verdict analyzer says of it, dump: where it was written. seconds: wall time by state."""

    scenario: str
    seed: int
    geometry: dict[str, Any]
    versions: dict[str, str | None]
    faults: tuple[str, ...]
    readings: tuple[Reading, ...]
    first: Violation | None = None
    dump: Path | None = None
    lines: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def as_expected(self) -> bool:
        """Every state on every path."""
        return all(reading.as_expected for reading in self.readings)

    def require_substance(self) -> None:
        """Raise VacuousError naming the first reading that exercised nothing."""
        for reading in self.readings:
            if reading.vacuous:
                why = (
                    "no page-table entry was checked"
                    if not reading.checked
                    else f"{reading.checked} entries were checked and full and SWA page ids never diverged"
                    " (the mapping is still the identity, so even the faulty rule reads the right pages);"
                    " use chunked prefill and enough requests to recycle SWA pages"
                )
                raise VacuousError(f"{self.scenario}: vacuous at {reading.state}/{reading.path}: {why}")
            if reading.expected == "faults" and reading.outcome == "wrong":
                raise VacuousError(
                    f"{self.scenario}: inconclusive at {reading.state}/{reading.path}: {reading.wrong_in_range} entries"
                    f" are wrong, and none passed the pool's {reading.bound} pages (largest {reading.largest});"
                    " use more --requests or a smaller --ratio"
                )


@dataclass(frozen=True)
class Scenario:
    """One bug. name: what a person types. needs: "cpu" or "cuda". run: does it."""

    name: str
    symptom: str
    upstream: str
    needs: tuple[str, ...]
    states: tuple[State, ...]
    run: Callable[[Options, Progress], Outcome]

    def selected(self, names: tuple[str, ...]) -> tuple[State, ...]:
        """The states to run, in file order. UsageError for an unknown name."""
        known = {state.name: state for state in self.states}
        for name in names:
            if name not in known:
                raise UsageError(f"unknown state {name!r} of {self.name}; known: {', '.join(known)}")
        return tuple(state for state in self.states if not names or state.name in names)
