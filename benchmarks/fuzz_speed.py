"""Steps a second of each fuzzing machine, and the share of the time inside sglang's own code.

    .venv/bin/python benchmarks/fuzz_speed.py [SECONDS] [ROUNDS]

Median of the rounds, each with a seed of its own. Inside is the time of the machine's calls into sglang, less that of
our probes within them; what remains is Hypothesis, the model, the probes and the traps.
"""

from __future__ import annotations

import statistics
import sys

from g4diag.fuzz.contract import Machine
from g4diag.fuzz.replay import machines
from g4diag.fuzz.runner import Budget, run
from g4diag.model.campaign import MachineRun


def measured(machine: Machine, seconds: float, rounds: int) -> list[MachineRun]:
    """One run a round. A warm-up of a few examples comes first."""
    run(machine, Budget(examples=5))
    return [run(machine, Budget(seconds=seconds), seed=seed) for seed in range(rounds)]


def main(seconds: float, rounds: int) -> None:
    """Print one line a machine."""
    print(f"{rounds} rounds of {seconds:g} s")
    for name, machine in machines().items():
        runs = measured(machine, seconds, rounds)
        speeds = [each.steps_per_second for each in runs]
        share = statistics.median(each.share for each in runs)
        span = f"({min(speeds):.0f} .. {max(speeds):.0f})"
        print(f"{name:24} {statistics.median(speeds):6.0f} steps/s {span:16} {share:5.0%} inside sglang")
        print(f"{'':24} {sum(each.steps for each in runs)} steps, failures: {sum(bool(each.failure) for each in runs)}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
