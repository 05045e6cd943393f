"""What a run of a scenario gives back, on the CPU and on real servers. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g4diag.errors import VacuousError
from g4diag.model import Violation
from g4diag.scenario.score import Score, share
from g4diag.scenario.standing import Cell, LeftOut, cell_of

_NAMED_BY = {"faults": "page_table_stays_in_pool", "wrong": "page_table_in_layer_space"}


@dataclass(frozen=True)
class Reading:
    """One row of the table: a state on a path. Counts are entries of page tables the draft was handed.

    swa_use: peak, 0..1. relative_error: mean over rows whose attention output differs from the truth, else 0.0.
    agreement: share of draft tokens equal to the truth's, None if every row would have faulted. accept_length: tokens a
    verify step would yield, where the model pair has a right answer; None where it has none.
    traps: names that fired, on this path or on the state's pool swaps. outcome, expected: as in `State`.
    error: the first exception of a draft. evidence: counts that must not be 0 for the state to mean anything.
    twin: the state is the use that a cure must not break. as_released: nothing was put back, cured or switched for it.
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
    error: str = ""
    evidence: Mapping[str, int] = field(default_factory=dict)
    twin: bool = False
    accept_length: float | None = None
    as_released: bool = False

    @property
    def as_expected(self) -> bool:
        """Whether the state behaved as its file says it does."""
        return self.outcome == self.expected

    @property
    def harmless(self) -> bool:
        """Equal to the truth."""
        return self.outcome == "equal"

    @property
    def told(self) -> str:
        """One line: what came of it, and on what grounds."""
        if self.error:
            return f"{self.state}/{self.path}: raises {self.error}"
        counts = f"{self.checked} page ids checked, {self.divergent} of them another number in SWA space"
        bad = f", {self.out_of_range} past the pool, {self.wrong_in_range} wrong" if not self.harmless else ""
        return f"{self.state}/{self.path}: {self.outcome}; {counts}{bad}"

    @property
    def vacuous(self) -> bool:
        """Nothing was checked, the two index spaces never diverged, or what the state is about never came up: the
        outcome says nothing. A draft that raised said something, whatever it had read by then."""
        read = bool(self.error) or (self.checked > 0 and self.divergent > 0)
        return not read or not all(self.evidence.values())


@dataclass(frozen=True)
class Outcome:
    """A whole run. faults: fault states that were put back for it. first: the first bad read of the faulty state,
    lines: what the verdict analyzer says of it, dump: where it was written. seconds: wall time by state. left_out:
    states that do not apply here. too_early: what says that the release is older than the bug. index_kernels: how
    sglang's kernels that compute ids ran, "torch" (by their equals) or "triton, interpreted"."""

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
    left_out: tuple[LeftOut, ...] = ()
    too_early: str = ""
    index_kernels: str = "torch"

    @property
    def as_expected(self) -> bool:
        """Every state on every path."""
        return all(reading.as_expected for reading in self.readings)

    @property
    def cell(self) -> Cell | None:
        """How the bug stands in what is installed; None if no state of this run says."""
        return cell_of(self.readings, self.too_early)

    @property
    def score(self) -> Score:
        """In states and paths. A draft that raises names itself; a state that is sound on one path only may well have
        fired a trap before either of them."""
        bad = [reading for reading in self.readings if reading.expected != "equal"]
        unsound = {reading.state for reading in bad}
        sound = [reading for reading in self.readings if reading.state not in unsound]
        return Score(
            found=share(reading.as_expected for reading in bad),
            named=share(_NAMED_BY[r.expected] in r.traps for r in bad if r.expected in _NAMED_BY),
            silent=share(reading.as_expected and not reading.traps for reading in sound if not reading.twin),
            twin=share(reading.as_expected and not reading.traps for reading in sound if reading.twin),
        )

    def require_substance(self) -> None:
        """Raise VacuousError naming the first reading that exercised nothing."""
        for reading in self.readings:
            if reading.vacuous:
                missing = [name for name, count in reading.evidence.items() if not count]
                why = (
                    f"no {missing[0]}"
                    if missing
                    else "no page-table entry was checked"
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
class ServerReading:
    """One row of the table of real servers. outcome, expected: see `ServerState`. finished: requests that came back
    whole. digest: of all output tokens, "" if none came. same_tokens: requests with the same tokens as in the run
    named `same_as`, of those both finished. accept_length, output_rate, tpot_ms, on_task: see `stack.served`.
    accept_log: (running requests, accept length) of the server's own log lines, which a dead server left too.
    error: the line that killed it. core: what the core dump says. reported: the innermost Python line of the
    traceback, "file.py:123". surfaces: "elsewhere" or "at the launch"; surfaces_expected: see `ServerState`.
    kernel: what faulted, by the core dump. named: the first bad read that a trap logged. unheard: a witness that the
    state asked for and that said nothing."""

    state: str
    graphs: bool
    outcome: str
    expected: str
    finished: int
    requests: int
    seconds: float
    start_seconds: float | None
    error: str
    log: str
    digest: str
    request_digests: Mapping[str, str] = field(default_factory=dict)
    swa_use: float | None = None
    accept_length: float | None = None
    output_rate: float | None = None
    tpot_ms: float | None = None
    on_task: float | None = None
    armed: tuple[str, ...] = ()
    core: tuple[str, ...] = ()
    reported: str = ""
    surfaces: str = ""
    surfaces_expected: str = ""
    kernel: str = ""
    named: str = ""
    unheard: str = ""
    accept_log: tuple[tuple[int, float], ...] = ()

    @property
    def path(self) -> str:
        """The word a person types."""
        return "graph" if self.graphs else "eager"

    @property
    def as_expected(self) -> bool:
        """Whether the server ended as its state says it does, and every witness that it asks for was heard."""
        ended = self.outcome in self.expected.split(" or ")
        return ended and self.surfaces_expected in ("", self.surfaces) and not self.unheard

    @property
    def inconclusive(self) -> bool:
        """It ended otherwise, and of something that is not the scenario's subject."""
        return not self.as_expected and self.outcome in ("other-error", "timeout")

    def same_tokens(self, other: ServerReading) -> tuple[int, int]:
        """(requests with equal tokens, requests both finished)."""
        both = self.request_digests.keys() & other.request_digests.keys()
        return sum(self.request_digests[i] == other.request_digests[i] for i in both), len(both)


@dataclass(frozen=True)
class ServerOutcome:
    """A whole run on real servers. engine: the arguments they all had. faults: fault states put back for it."""

    scenario: str
    seed: int
    gpu: Mapping[str, str]
    versions: dict[str, str | None]
    engine: Mapping[str, Any]
    load: Mapping[str, int | str]
    faults: tuple[str, ...]
    readings: tuple[ServerReading, ...]

    @property
    def as_expected(self) -> bool:
        """Every state, with graphs and without."""
        return all(reading.as_expected for reading in self.readings)

    @property
    def exit_code(self) -> int:
        """0 all as expected, 1 one ended otherwise, 4 the only ones that did never got to the subject."""
        odd = [reading for reading in self.readings if not reading.as_expected]
        return 0 if not odd else 4 if all(reading.inconclusive for reading in odd) else 1

    def same_tokens(self, reading: ServerReading) -> tuple[str, int, int] | None:
        """(state compared with, equal requests, compared ones): the first state of the same path that finished,
        None for that state itself or when there is none. Target verification guards the output, so a draft that
        reads garbage changes the accept length and not the tokens."""
        rows = (r for r in self.readings if r.graphs == reading.graphs and r.outcome == "finished")
        first = next(rows, None)
        if first is None or first is reading or not reading.request_digests:
            return None
        return (first.state, *reading.same_tokens(first))
