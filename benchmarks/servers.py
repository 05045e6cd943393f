"""What the benchmarks over real servers share: engine arguments, the two shapes, watched server jobs, log readings.

A server is one `server_run` job in a thread of its own. Its child is `server_work.py` where a benchmark sends its own
traffic; the benchmark and the child talk through files in the job's folder.
"""

from __future__ import annotations

import atexit
import gzip
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from g4diag.patches.applying import lacking  # noqa: E402
from g4diag.servers import crash_log, plugin_site  # noqa: E402
from g4diag.servers import run as server_run  # noqa: E402
from g4diag.servers.run import Job, Result  # noqa: E402
from g4diag.stack.pairs import tiny_pair  # noqa: E402

FAULT = "faulty-rule"
ENGINE: dict[str, Any] = tiny_pair.ENGINE | {"random_seed": 0}
# Sliding layers of the 26B-A4B shape read eight K/V heads, full ones two; head_dim 256 for both, which XQA needs.
BIG_LAYERS = (*("sliding_attention",) * 5, "full_attention") * 5
BIG_HIDDEN, BIG_WINDOW, BIG_HEADS = 2816, 512, (16, 8, 2)


def cures(*, eager: bool = True) -> tuple[str, ...]:
    """What a healthy server needs: a released 0.5.13 has both bugs, the first of them with decode graphs off."""
    return lacking(("eager-draft-out-cache-loc", "xqa-strided-query")[not eager :])


def on_backend(name: str) -> dict[str, Any]:
    """The engine with target and draft on one attention backend."""
    kinds = ("prefill_attention_backend", "decode_attention_backend", "speculative_draft_attention_backend")
    return ENGINE | dict.fromkeys(kinds, name) if name else ENGINE


def workplace() -> Path:
    """Where servers' folders go: not $OUT, which takes few files."""
    return Path(os.environ.get("G4_WORK", "/tmp/g4diag-out"))


def out() -> Path:
    """$OUT, or the current directory."""
    folder = Path(os.environ.get("OUT", "."))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(name: str, content: Mapping[str, Any]) -> Path:
    """Whole or not at all: a run may be killed at any time."""
    path = out() / name
    part = path.with_name(f".{name}.part")
    part.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def tiny_models(folder: Path) -> dict[str, str]:
    """Engine arguments that name the tiny pair."""
    target, draft = tiny_pair.write_pair(folder)
    return {"model_path": str(target), "speculative_draft_model_path": str(draft)}


def big_models(folder: Path, intermediate: int) -> dict[str, str]:
    """As `tiny_models`, with the attention of Gemma-4 26B-A4B but for head_dim, and a dense MLP."""
    target, draft = tiny_pair.target_config(), tiny_pair.assistant_config()
    target.text_config = _shaped_text(target.text_config, BIG_HIDDEN, intermediate, BIG_LAYERS, BIG_HEADS, BIG_WINDOW)
    shape_assistant(draft, BIG_HIDDEN, BIG_HEADS, BIG_WINDOW)
    return {
        "model_path": str(tiny_pair.write_config(folder / "target", target)),
        "speculative_draft_model_path": str(tiny_pair.write_config(folder / "draft", draft)),
    }


def shape_assistant(draft: Any, hidden: int, heads: tuple[int, int, int], window: int) -> None:
    """Its layers and heads, for a target of that hidden size. heads: query, sliding K/V, full K/V."""
    layers = ("sliding_attention",) * 3 + ("full_attention",)
    draft.text_config = _shaped_text(draft.text_config, 1024, 4096, layers, heads, window)
    draft.text_config.num_kv_shared_layers, draft.backbone_hidden_size = len(layers), hidden


def _shaped_text(
    text: Any, hidden: int, inner: int, layers: tuple[str, ...], heads: tuple[int, int, int], window: int
) -> Any:
    """Made anew: transformers 5.19 sorts heads by layer where a config is made, and what is set later is not seen. Full
    layers have heads of their own only where their values are their keys, as the real model's are."""
    query, sliding, full = heads
    wanted = {"num_attention_heads": query, "num_key_value_heads": sliding, "num_global_key_value_heads": full}
    wanted |= {"hidden_size": hidden, "intermediate_size": inner, "sliding_window": window}
    wanted |= {"num_hidden_layers": len(layers), "layer_types": list(layers)}
    wanted |= {"head_dim": tiny_pair.HEAD_DIM, "global_head_dim": tiny_pair.HEAD_DIM, "attention_k_eq_v": True}
    rest = {name: value for name, value in text.to_dict().items() if name != "per_layer_config"}
    return type(text)(**rest | wanted)


def own_child(name: str = "server_work") -> None:
    """Jobs of this process run benchmarks/NAME.py, and end with it, also where it is ended. -P: the folder's module
    names stay out of the server."""
    end_servers_with_us()
    server_run.COMMAND = (sys.executable, "-P", str(ROOT / "benchmarks" / f"{name}.py"))


def end_servers_with_us() -> None:
    """A server that is left alone keeps its GPU's memory from whatever is measured next."""
    atexit.register(lambda: stop_all(list(_STARTED)))
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: Any) -> None:
    # Whoever sends it to the whole group sends it twice, and the second would cut short what the first began.
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def clock_plugin(folder: Path) -> None:
    """Make the `g4bench` plugin (step_clock.py) loadable in every server this process starts."""
    plugin(folder, "g4bench", "step_clock")


def plugin(folder: Path, name: str, source: str, *beside: str) -> None:
    """Make benchmarks/SOURCE.py, with its `register`, loadable as plugin `name` in every server this process starts.
    beside: what it imports of benchmarks/, by its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    info = folder / f"{name}-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{plugin_site.GROUP}]\n{name} = {name}_{source}:register\n")
    shutil.copyfile(ROOT / "benchmarks" / f"{source}.py", folder / f"{name}_{source}.py")
    for module in beside:
        shutil.copyfile(ROOT / "benchmarks" / f"{module}.py", folder / f"{module}.py")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


_STARTED: list[Server] = []


class Server(threading.Thread):
    """One job, from start to its last reading. `result` is None until it is over."""

    def __init__(self, name: str, job: Job, after: float = 0.0) -> None:
        super().__init__(name=name, daemon=True)
        self.job, self.after, self.stop = job, after, threading.Event()
        self.result: Result | None = None
        self.problem = ""
        _STARTED.append(self)

    def run(self) -> None:
        try:
            if not self.stop.wait(self.after):
                self.result = server_run.run(self.job, self.stop)
        except Exception as error:  # a server that cannot be read is one row, not the end of the others
            self.problem = f"{type(error).__name__}: {error}"

    @property
    def clock(self) -> Path:
        return self.job.folder / "steps.i64"

    def events(self) -> list[dict[str, Any]]:
        return server_run.read_events(self.job.folder / "events.jsonl")

    def saw(self, event: str, **values: Any) -> dict[str, Any] | None:
        """The first such row, None while there is none."""
        for row in self.events():
            if row.get("event") == event and all(row.get(key) == value for key, value in values.items()):
                return row
        return None

    def text(self) -> str:
        log = self.job.folder / "server.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def why(self) -> str:
        """One line for one that died or never got ready."""
        said = self.problem or (self.result.error if self.result else "")
        return (said or crash_log.last_error(self.text()) or "no word")[:300]


def environment(traps: str = "", level: str = "", recorder: bool = False, dumps: Path | None = None) -> dict[str, str]:
    """The G4DIAG_* variables of a server; what is not asked for is not set."""
    values = {"G4DIAG_TRAPS": traps, "G4DIAG_LEVEL": level, "G4DIAG_RECORDER": "on" if recorder else ""}
    values["G4DIAG_DUMP_DIR"] = str(dumps) if dumps else ""
    return {name: value for name, value in values.items() if value}


_VIOLATION = re.compile(r"g4diag violation .*")
_TRIPPED = re.compile(r"\bTrapTripped: .*")
_NAMED = {
    "layer": r"\blayer[ =:]*\d",
    "row": r"\brow[ =:]*\d",
    "entry": r"\b(?:entry|column)[ =:]*\d",
    "value": r"\b(?:value|page)[ =:]*-?\d",
    "bound": r"\b(?:bound[ =:]*|pool of |of )\d",
}


def violations(text: str) -> list[str]:
    """Every violation line of a log, without its prefix."""
    return _VIOLATION.findall(text)


def tripped(text: str) -> str:
    """The Python error of a level that raises; "" if none did."""
    found = _TRIPPED.search(text)
    return found.group(0)[:600] if found else ""


def not_named(line: str) -> list[str]:
    """What a violation or an error should name and does not."""
    return [name for name, sign in _NAMED.items() if not re.search(sign, line)]


def retractions(text: str) -> int:
    """Requests taken back for want of pages, as the scheduler logged them."""
    return sum(int(number) for number in re.findall(r"Retract requests\..*?#retracted_reqs: (\d+)", text))


def last_counters(text: str) -> dict[str, int]:
    """The last value of each counter that the live layer may log: `checks=`, `launches=`, `judged=`."""
    return {name: int(value) for name, value in re.findall(r"\b(checks|launches|judged)=(\d+)", text)}


def step_times(rows: Sequence[tuple[int, int, int]], least: int = 20) -> dict[str, Any]:
    """Decode step times, in microseconds, from a step clock's rows (ns, is decode, batch): between two decode steps
    in a row of the largest batch that has at least `least` of them."""
    gaps: dict[int, list[float]] = {}
    for (before, mode, batch), (after, next_mode, next_batch) in itertools.pairwise(rows):
        if mode == next_mode == 1 and batch == next_batch:
            gaps.setdefault(batch, []).append((after - before) / 1000)
    batch = max((size for size, found in gaps.items() if len(found) >= least), default=0)
    if not batch:
        return {"steps": 0}
    times = sorted(gaps[batch])
    at = {"p10": times[len(times) // 10], "median": statistics.median(times), "p90": times[len(times) * 9 // 10]}
    return {"steps": len(times), "batch": batch} | {f"{name}_us": round(value, 1) for name, value in at.items()}


def read_clock(path: Path, start: int = 0) -> tuple[int, int, list[tuple[int, int, int]]]:
    """(rows so far, launches of the device check or -1, rows from `start`) of a step clock's file."""
    import numpy as np

    if not path.exists():
        return 0, -1, []
    table = np.memmap(path, dtype=np.int64, mode="r").reshape(-1, 3)
    count = int(table[0, 0])
    rows = [(int(a), int(b), int(c)) for a, b, c in table[1 + start : 1 + count]]
    return count, int(table[0, 1]), rows


def free_gib() -> float | None:
    """Free memory of this process's first GPU, None where nobody can say."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", first]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()[0]) / 1024
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def machine() -> dict[str, Any]:
    """What the figures were taken on; imports nothing heavy and touches no device."""
    from g4diag.hooks.versions import installed

    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,temperature.gpu", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        gpu = str(error)
    versions = {name: version for name, version in installed().items() if version}
    return {"gpu": gpu, "cpus": os.cpu_count(), "versions": versions, "command": " ".join(sys.argv)}


def write_tails(name: str, servers: Iterable[Server], lines: int = 150) -> None:
    """The ends of their logs and every violation line there, in one gz."""
    with gzip.open(out() / name, "wt", encoding="utf-8") as stream:
        for server in servers:
            text = server.text()
            stream.write(f"===== {server.name}\n")
            stream.writelines(f"{line[:600]}\n" for line in violations(text)[:20])
            stream.write("----- the end\n")
            stream.writelines(f"{line[:600]}\n" for line in crash_log.tail(text, lines))


def stop_all(servers: Iterable[Server], seconds: float = 20.0) -> None:
    """End what still runs; each takes a second or two."""
    running = [server for server in servers if server.is_alive()]
    for server in running:
        server.stop.set()
    end = time.monotonic() + seconds
    for server in running:
        server.join(max(0.1, end - time.monotonic()))


def show(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A plain table."""
    text = [[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in text) for column in range(len(header))]
    for row in text:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)
