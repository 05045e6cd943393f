"""What a large log costs: `logs` reads it whole, against a bare line-by-line pass of one regular expression.

    python benchmarks/log_speed.py [--mib 200] [--seed 0]

The log is synthetic: decode and prefill lines, requests, a traceback now and then, and a crash at its end. Both passes
read the same file from the page cache, each in a process of its own, the median of `--times` runs. Wanted: at most 1.5
times the bare pass's processor time, and under 200 MiB of memory in all. Exit 1 where either is missed, 4 where the
crash was not found: then nothing was measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

WANTED_RATIO, WANTED_MIB = 1.5, 200
_BARE = re.compile(
    rb"illegal memory access|Traceback \(most recent|Error: |Exception: |NVRM: Xid|leak detected|kv_canary violation"
    rb"|Assertion `|Retract requests|server_args|Fatal Python error|out of memory|Watchdog|g4diag "
)
_TRACE = (
    b'Scheduler hit an exception: Traceback (most recent call last):\n  File "/s/sglang/srt/managers/scheduler.py", '
    b'line 10, in run\n    self.step()\n  File "/s/sglang/srt/layers/sampler.py", line 120, in forward\n'
    b"    probs = probs.cpu()\n"
)
_END = b"torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n"


def write(path: Path, mib: int, seed: int) -> None:
    """A log of some `mib` MiB that ends in a crash."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        second = 0
        while file.tell() < mib << 20:
            file.write(b"".join(_lines(chance, second)))
            second += 1
        file.write(_stamp(second, 3) + _TRACE + _END)


def _lines(chance: random.Random, second: int) -> list[bytes]:
    """One second of a server with eight ranks."""
    found = []
    for rank in range(8):
        at = _stamp(second, rank)
        use = chance.random()
        found.append(
            at + b"Decode batch, #running-req: %d, #full token: %d, full token usage: %.2f, #swa token: %d, swa token "
            b"usage: %.2f, accept len: %.2f, accept rate: 0.60, cuda graph: True, gen throughput (token/s): 4120.11, "
            b"#queue-req: 0\n" % (chance.randrange(64), 190112, use, 151003, use, 1 + 2 * chance.random())
        )
        found.append(at + b"Prefill batch, #new-seq: 1, #new-token: 1024, #cached-token: 0, full token usage: 0.33\n")
    for _ in range(12):
        found.append(_stamp(second, -1) + b'INFO:     127.0.0.1:40000 - "POST /generate HTTP/1.1" 200 OK\n')
    if second % 60 == 0:
        found.append(
            _stamp(second, -1) + b"Error in request: " + _TRACE.partition(b": ")[2] + b"ValueError: too long\n"
        )
        found.append(
            _stamp(second, 0) + b"a line of some library that says nothing, with 17 numbers and no sign of any event\n"
        )
    return found


def _stamp(second: int, rank: int) -> bytes:
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1780275600 + second))
    return f"[{clock}{f' TP{rank}' if rank >= 0 else ''}] ".encode()


def bare(path: Path) -> int:
    """Lines that the expression finds."""
    with path.open("rb") as file:
        return sum(1 for line in file if _BARE.search(line))


def whole(path: Path) -> int:
    """Crashes that the log tells."""
    from g4diag.logs import story
    from g4diag.logs.reading import read_log

    with path.open("rb") as file:
        log = read_log(file, path.name)
    crashes = story.of(log.events)
    return sum(crash.blame.how == "waited" for crash in crashes)


def _measured(job: tuple[str, str]) -> tuple[float, float, int]:
    """(processor seconds, MiB at most, what was found), in a process of its own."""
    function = {"bare": bare, "whole": whole}[job[0]]
    began = time.process_time()
    found = function(Path(job[1]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.process_time() - began, peak, found


def main() -> int:
    """Print one line a pass; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.log"
        write(path, given.mib, given.seed)
        runs = {}
        for name in ("bare", "whole"):
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                runs[name] = pool.map(_measured, [(name, str(path))] * given.times, chunksize=1)
        size = path.stat().st_size / 1e6
    seconds = {name: statistics.median(run[0] for run in of) for name, of in runs.items()}
    for name, of in runs.items():
        peak = max(run[1] for run in of)
        print(f"{name:6} {seconds[name]:7.2f} s  {size / seconds[name]:7.0f} MB/s  {peak:5.0f} MiB  found {of[0][2]}")
    ratio, peak = seconds["whole"] / seconds["bare"], max(run[1] for run in runs["whole"])
    print(
        f"{size:.0f} MB: {ratio:.2f} times the bare pass (wanted {WANTED_RATIO}), {peak:.0f} MiB (wanted {WANTED_MIB})"
    )
    if not all(run[2] for of in runs.values() for run in of):
        print("the crash was not found: nothing was measured")
        return 4
    return int(ratio > WANTED_RATIO or peak > WANTED_MIB)


if __name__ == "__main__":
    sys.exit(main())
