"""What the GPU benchmarks share: start-up on a bare machine, timing by graph replay, machine facts, JSON to $OUT."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class CannotRun(Exception):
    """This machine lacks what the benchmark needs; exit 3."""


def prepare() -> None:
    """Make `g4diag` and sglang importable and require CUDA. Before the first import of either."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    if importlib.util.find_spec("IPython") is None:
        # sglang.utils imports two names of it at its top, for notebooks.
        display = types.ModuleType("IPython.display")
        vars(display).update(HTML=str, display=print)
        sys.modules |= {"IPython": types.ModuleType("IPython"), "IPython.display": display}
    try:
        import torch
    except ImportError as error:
        raise CannotRun(str(error)) from error
    if not torch.cuda.is_available():
        raise CannotRun("wanted a CUDA GPU, found none")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_grad_enabled(False)


@dataclass(frozen=True)
class Timing:
    """Microseconds a call, over graph replays: median, lowest, 90th percentile, and how many replays."""

    median: float
    low: float
    p90: float
    replays: int


def time_calls(calls: Sequence[Callable[[], Any]], budget_s: float = 0.25) -> Timing:
    """Time `calls` by replaying a CUDA graph of them, in turn, so that no host launch is in the figure. Give several
    calls on separate buffers, larger together than the L2 cache, or repeated runs measure the cache."""
    import torch

    for call in calls:  # compiles, and loads the modules that a capture may not
        call()
    once = _elapsed_us([torch.cuda.Event(enable_timing=True) for _ in range(2)], lambda: [call() for call in calls])
    launches = len(calls) * max(1, min(20, int(2000 / max(once, 1.0))))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(launches):
            calls[index % len(calls)]()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    replay_us = min(_elapsed_us(events, graph.replay) for _ in range(2))
    replays = max(7, min(100, int(budget_s * 1e6 / replay_us)))
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(replays)]
    for start, end in pairs:
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    times = sorted(start.elapsed_time(end) * 1000 / launches for start, end in pairs)
    return Timing(statistics.median(times), times[0], times[min(len(times) - 1, int(0.9 * len(times)))], replays)


def _elapsed_us(events: list[Any], work: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    events[0].record()
    work()
    events[1].record()
    torch.cuda.synchronize()
    return events[0].elapsed_time(events[1]) * 1000


def in_shares(script: list[str], limit_s: float) -> str:
    """Run `script` with "i/n" appended in n parallel processes, to fill Triton's cache; says how that went. What they
    leave undone is compiled when it is met."""
    count, start, failed = max(1, min(12, (os.cpu_count() or 2) - 2)), time.monotonic(), list[str]()
    with ExitStack() as files:
        children = []
        for index in range(count):
            # Not pipes: a process that logs much would wait until its turn to be read.
            said = files.enter_context(tempfile.TemporaryFile())
            command = [sys.executable, *script, f"{index}/{count}"]
            children.append((subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said), said))
        for child, said in children:
            try:
                code = child.wait(timeout=max(1.0, limit_s - (time.monotonic() - start)))
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                failed += [f"exit {code}: {lines[-1][:100] if lines else ''}"] if code else []
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                failed.append("out of time")
    took = time.monotonic() - start
    return f"compiled ahead in {took:.0f} s, {count} processes; failed: {failed or 'none'}"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    import torch
    import triton

    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,temperature.gpu,power.draw", "--format=csv,noheader"]
    try:
        state = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        state = str(error)
    return {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": getattr(properties, "L2_cache_size", 50 << 20),
        "driver, SM clock, temperature, power": state,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": triton.__version__,
        "command": " ".join(sys.argv),
    }


def write_json(name: str, content: dict[str, Any]) -> None:
    """Into $OUT, or the current directory."""
    path = Path(os.environ.get("OUT", "."), name)
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"written: {path}", flush=True)


def show(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A plain table: first column left, the others right."""
    text = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in text) for column in range(len(header))]
    for row in text:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([row[0].ljust(widths[0]) if first else "", *rest]), flush=True)
