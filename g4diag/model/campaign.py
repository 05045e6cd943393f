"""What a fuzzing campaign comes to: plain values that the runner makes, reports render, and a script can hold on to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """One broken claim, shrunk. claim: a trap's name, or `model:<claim>` where no trap covers it. text: one sentence.
    also: other claims the same step broke. program: the shrunk steps, one line of Python each. found_after: steps run
    until it was first seen, of `seconds`; shrinking comes after. dump, test: files written, None if none. repeats:
    False if it did not come again when the same steps were run; program is then the one it came in, not shrunk."""

    claim: str
    text: str
    program: tuple[str, ...]
    found_after: int
    seconds: float
    shrink_seconds: float
    also: tuple[str, ...] = ()
    dump: Path | None = None
    test: Path | None = None
    repeats: bool = True

    @property
    def length(self) -> int:
        """Steps of the program."""
        return len(self.program)


@dataclass(frozen=True)
class MachineRun:
    """One machine's share of a campaign. examples: programs run to their end, or to the failure. broken_off: further
    ones that Hypothesis gave up part-way and replaced. steps: rules run in both, shrinking left out. seconds: wall
    time of them.
    inside: seconds of those inside sglang's own code. judged: views a trap judged, by trap. missing: goals and traps
    never reached; a run that found nothing and has any is vacuous."""

    machine: str
    seed: int
    faults: tuple[str, ...] = ()
    examples: int = 0
    steps: int = 0
    seconds: float = 0.0
    inside: float = 0.0
    coverage: dict[str, int] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    failure: Failure | None = None
    broken_off: int = 0

    @property
    def ran(self) -> str:
        """As `30 examples and 6 that Hypothesis broke off`."""
        return f"{self.examples} examples" + f" and {self.broken_off} that Hypothesis broke off" * bool(self.broken_off)

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.seconds if self.seconds else 0.0

    @property
    def share(self) -> float:
        """Share of the time that went into sglang's own code, 0..1."""
        return self.inside / self.seconds if self.seconds else 0.0

    @property
    def exit_code(self) -> int:
        """0 clean, 1 a claim is broken, 4 vacuous, as a run of no step is."""
        return 1 if self.failure else 4 if self.missing or not self.steps else 0


@dataclass(frozen=True)
class Campaign:
    """Every machine's run. versions: package -> version. database: where examples are kept, "" for nowhere."""

    runs: tuple[MachineRun, ...]
    versions: dict[str, str | None]
    database: str = ""
    jobs: int = 1

    @property
    def exit_code(self) -> int:
        """1 if any claim is broken, else 4 if any run was vacuous, else 0."""
        codes = {run.exit_code for run in self.runs}
        return 1 if 1 in codes else 4 if 4 in codes else 0
