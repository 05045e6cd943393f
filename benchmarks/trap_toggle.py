"""What traps cost the host of a healthy server, told in one process: armed and disarmed between batches.

    bash tools/on_gpu.sh exec python3 benchmarks/trap_toggle.py --shape tiny,26b [--time-limit 300]

Two servers of one kind differ by some percent on a shared machine, more than the traps cost. Here one server a shape
is started with everything armed, so its graphs hold the captured checks, and each batch is served with other hooks on:
none, page-table traps, all traps, all and the recorder. The ratio is against `none` of the same round. What the
captured checks cost the device is in all four alike, and stands in RESULTS.md apart. Shapes are those of
`trap_overhead.py`. Writes $OUT/trap_toggle.json after every reading.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import expert_pair
import servers
from servers import Server, cures
from trap_overhead import BIG, Shape, summary
from trap_overhead import SHAPES as SHARED

from g4diag.servers.run import Job

MODES = {
    "none": {"G4DIAG_TRAPS": "none", "G4DIAG_RECORDER": "off"},
    "page-table": {"G4DIAG_TRAPS": "page-table", "G4DIAG_RECORDER": "off"},
    "all traps": {"G4DIAG_TRAPS": "all", "G4DIAG_RECORDER": "off"},
    "all + recorder": {"G4DIAG_TRAPS": "all", "G4DIAG_RECORDER": "on"},
    "recorder": {"G4DIAG_TRAPS": "none", "G4DIAG_RECORDER": "on"},
}
EXPERTS = "26b-a4b"  # expert_pair.py: it has a GPU to itself
SHAPES = SHARED | {
    EXPERTS: Shape(EXPERTS, (), BIG | expert_pair.ENGINE | {"mem_fraction_static": 0.92}, 32, 1000, 3000, 0, 100)
}
ALONE = ("26b", EXPERTS)


def start(
    shape: Shape, number: int, limit: float, intermediate: int, graphs: tuple[int, ...] = (), **more: str
) -> Server:
    """graphs: batch sizes that are captured. more: environment variables of this server."""
    folder = servers.workplace() / "toggle" / shape.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models = models_of(shape, Path(tempfile.mkdtemp(prefix="g4-toggle-")), intermediate)
    environment = servers.environment("all", "", True, folder / "dumps") | {
        "SGLANG_PLUGINS": plugins(shape),
        "REALBENCH_FOLDER": str(folder),
        "TRAPBENCH_WORK": "standby",
        "TRAPBENCH_CLOCK": str(folder / "steps.i64"),
        "TRAPBENCH_MODES": str(folder),
        "TRAPBENCH_LAUNCHES": "1",
        **more,
    }
    engine = servers.ENGINE | models | shape.engine
    engine |= {"port": 27_000 + 150 * number, "max_running_requests": shape.batch, "decode_log_interval": 100}
    engine |= {"cuda_graph_bs": list(graphs or (8, shape.batch))}
    if shape.name in ALONE:
        # Alone on its GPU it has room for the SWA side of a whole batch of prompts, so that all of it decodes at once.
        engine["swa_full_tokens_ratio"] = 0.95
    job = Job(
        engine=engine,
        patches=cures(eager=False),
        folder=folder,
        seconds=limit,
        environment=environment,
        requests=1,
        prompt_tokens=shape.prompt,
        new_tokens=1,
    )
    server = Server(shape.name, job)
    server.start()
    return server


def plugins(shape: Shape, *more: str) -> str:
    """SGLANG_PLUGINS of this shape's server."""
    return ",".join(("g4diag", "g4bench", *(("g4real",) if shape.name == EXPERTS else ()), *more))


def models_of(shape: Shape, folder: Path, intermediate: int) -> dict[str, str]:
    """Engine arguments that name this shape's pair, written below `folder`."""
    if shape.name == EXPERTS:
        servers.plugin(Path(tempfile.mkdtemp(prefix="g4-real-site-")), "g4real", "real_plugin")
        return expert_pair.models(folder)
    return servers.big_models(folder, intermediate) if shape.name == "26b" else servers.tiny_models(folder)


def wait_for(server: Server, found: Any, end: float) -> Any:
    """What `found()` gives, once it gives something; None when the server or the time is over."""
    while time.monotonic() < end and server.is_alive():
        if value := found():
            return value
        time.sleep(0.1)
    return None


class Bench:
    """One shape's server and its readings."""

    def __init__(self, shape: Shape, server: Server, end: float) -> None:
        self.shape, self.server, self.end = shape, server, end
        self.folder, self.orders, self.modes = server.job.folder, 0, 0

    def arm(self, mode: str) -> str:
        """Change what is armed; what the server says of it."""
        number, self.modes = self.modes, self.modes + 1
        put(self.folder / "mode.json", {"number": number, "environment": MODES[mode]})
        ack = self.folder / f"mode-{number}.ack"
        # An idle scheduler may sleep: a request wakes it.
        self.serve(1, 2)
        wait_for(self.server, ack.exists, min(self.end, time.monotonic() + 20))
        return ack.read_text() if ack.exists() else "no answer"

    def census(self, counting: bool) -> list[list[float]]:
        """Begin or end to count the experts of prefills in an EXPERTS server; a row a layer's call of those since."""
        number = int(not counting)
        put(self.folder / "switch.json", {"number": number, "tile": False, "census": counting})
        self.serve(1, 2)
        ack = self.folder / f"switch-{number}.ack"
        wait_for(self.server, ack.exists, min(self.end, time.monotonic() + 20))
        return list(json.loads(ack.read_text())["experts"]) if ack.exists() else []

    def serve(self, requests: int, new_tokens: int, seed: int = 0) -> dict[str, Any] | None:
        number, self.orders = self.orders, self.orders + 1
        order = {"seed": seed, "requests": requests, "prompt_tokens": self.shape.prompt, "new_tokens": new_tokens}
        put(self.folder / f"go-{number}.json", order)
        row = wait_for(self.server, lambda: self.server.saw("measured", number=number), self.end)
        return row if isinstance(row, dict) else None

    def read(self, mode: str, round_number: int) -> dict[str, Any] | None:
        """One batch under one mode."""
        said = self.arm(mode)
        before = servers.read_clock(self.server.clock)[0]
        if self.serve(self.shape.batch, self.shape.new, round_number) is None:
            return None
        _, launches, rows = servers.read_clock(self.server.clock, before)
        about = {"shape": self.shape.name, "config": mode, "base": "none", "round": round_number, "said": said}
        return about | servers.step_times(rows) | {"launches": launches}


def put(path: Path, content: Any) -> None:
    """Whole or not at all."""
    path.with_suffix(".part").write_text(json.dumps(content))
    path.with_suffix(".part").rename(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="tiny,26b")
    parser.add_argument("--rounds", type=int, default=40, help="at most; as many as the time limit allows")
    parser.add_argument("--time-limit", type=float, default=300.0)
    parser.add_argument("--new", type=int, default=0, help="tokens a request, in place of the shape's")
    parser.add_argument("--prompt", type=int, default=0)
    parser.add_argument("--intermediate", type=int, default=3072)
    options = parser.parse_args()
    end = time.monotonic() + options.time_limit
    shapes = [SHAPES[name] for name in options.shape.split(",")]
    shapes = [replace(s, new=options.new or s.new, prompt=options.prompt or s.prompt) for s in shapes]
    servers.own_child()
    servers.clock_plugin(Path(tempfile.mkdtemp(prefix="g4-toggle-site-")))
    benches = [
        Bench(shape, start(shape, index, options.time_limit, options.intermediate), end)
        for index, shape in enumerate(shapes)
    ]
    for bench in benches:
        wait_for(bench.server, lambda b=bench: b.server.saw("ready"), end)
        print(f"trap_toggle: {bench.shape.name} ready, {end - time.monotonic():.0f} s left", flush=True)
    readings: list[dict[str, Any]] = []
    order, generator = list(MODES), random.Random(0)
    for number in range(options.rounds):
        begun = time.monotonic()
        generator.shuffle(order)
        for bench in benches:
            for mode in order:
                if end - time.monotonic() > 12 and (row := bench.read(mode, number)):
                    readings.append(row)
        rows = summary(readings)
        servers.write_json(
            "trap_toggle.json",
            {
                "about": __doc__,
                "options": vars(options),
                "machine": servers.machine(),
                "summary": rows,
                "violations": {b.shape.name: len(servers.violations(b.server.text())) for b in benches},
                "readings": readings,
            },
        )
        if end - time.monotonic() < 1.2 * (time.monotonic() - begun) + 12:
            break
    columns = ("shape", "config", "batch", "rounds", "steps", "step_us", "ratio", "ratio_low", "ratio_high")
    rows = summary(readings)
    servers.show(columns, [[row.get(column, "-") for column in columns] for row in rows])
    for bench in benches:
        if not bench.server.saw("ready"):
            print(f"{bench.shape.name}: never ready: {bench.server.why()}")
    servers.write_tails("trap_toggle-logs.txt.gz", [bench.server for bench in benches], 60)
    servers.stop_all([bench.server for bench in benches])
    return 0 if readings else 1


if __name__ == "__main__":
    sys.exit(main())
