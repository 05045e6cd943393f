"""What one record of the flight recorder costs, beside a loop that does what a scheduler step does on the host.

CPU only; timings of a shared machine are noisy, so the figures that count are the ratios of one run: each round times
every variant, in turn, and the medians are over rounds. `python benchmarks/recorder_cost.py [ROUNDS]`
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from g4diag.dump.ring import NUMBERS, RingWriter
from g4diag.stack.live.recorder import Recorder

BATCH, STEPS = 64, 2000
NUMBERS_OF_A_STEP = tuple(range(len(NUMBERS) - 1))


def scheduler_like(reqs: list[Any]) -> int:
    """One decode step's bookkeeping, and little of it: a token appended and a finish check for every request. The
    real scheduler does this and much more, so the ratio is an upper bound."""
    unfinished = 0
    for req in reqs:
        req.output_ids.append(unfinished)
        if len(req.output_ids) > 512:
            req.output_ids.clear()
        unfinished += req.max_new_tokens > len(req.output_ids)
    return unfinished


def per_call(function: Callable[[], Any]) -> float:
    """Microseconds."""
    start = time.perf_counter_ns()
    for _ in range(STEPS):
        function()
    return (time.perf_counter_ns() - start) / STEPS / 1e3


def variants(folder: Path) -> dict[str, Callable[[], Any]]:
    """Name -> one call."""
    reqs = [SimpleNamespace(rid=f"request-{i:032x}", output_ids=[], max_new_tokens=128) for i in range(BATCH)]
    mode = SimpleNamespace(name="DECODE")
    batch = SimpleNamespace(reqs=reqs, forward_mode=mode, extend_num_tokens=None, seq_lens_sum=4000)
    pools = SimpleNamespace(
        size_full=65536, size_swa=9830, full_available_size=lambda: 100, swa_available_size=lambda: 10
    )
    scheduler = SimpleNamespace(forward_ct=1, waiting_queue=[], token_to_kv_pool_allocator=pools)
    ring, recorder = RingWriter(folder / "raw", {}), Recorder(folder)
    return {
        "scheduler-like loop": lambda: scheduler_like(reqs),
        "one record written": lambda: ring.step("DECODE", NUMBERS_OF_A_STEP),
        "one step, gathered, written": lambda: recorder._before_batch(scheduler, batch),
        "one mark": lambda: ring.mark("verdict", "layer=4 row=0 column=60 value=188 bound=154", 12),
    }


def main(rounds: int) -> None:
    """Print medians and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        calls = variants(Path(folder))
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                taken[name].append(per_call(call))
    loop = statistics.median(taken["scheduler-like loop"])
    print(f"{rounds} rounds of {STEPS} calls, batch {BATCH}")
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"{name:30} {median:8.2f} us   {median / loop:6.2f} of the loop   (min {min(times):.2f})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
