"""What traps cost a healthy server: decode step time with nothing armed, with traps, and with others' nets.

    bash tools/on_gpu.sh exec python3 benchmarks/trap_overhead.py --shape tiny,26b [--wait-for FILE] [--time-limit 400]

Every configuration's server is up before anything is timed, and sleeps while another is timed. Rounds go through all
of them; each ratio is against nothing armed, same path, same round. A step is the time between two decode batches as
the scheduler begins them (`step_clock.py`, loaded in all of them alike), median over the full batch's steps.

`tiny`: the tiny pair. `26b`: the attention of Gemma-4 26B-A4B (30 layers, 25 sliding with 8 K/V heads and 5 full with
2, 16 heads, hidden 2816) with head_dim 256 throughout, window 512 for 1024, a vocabulary of 2048 and a dense MLP in
place of the experts, some 3.6 GB of dummy weights for 50: four servers must fit one GPU. Its step is shorter than the
real model's, so the ratios are harsher. `--kv-canary log` and compute-sanitizer: trap_rivals.py.
Writes $OUT/trap_overhead.json after every reading.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import servers
from servers import Server, cures

from g4diag.servers import crash_log
from g4diag.servers.run import Job


@dataclass(frozen=True)
class Config:
    """One way to run the healthy server. base: the configuration its ratio is against. drafted: with the assistant.
    engine: arguments of its own."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    eager: bool = False
    base: str = "nothing"
    recorder: bool = False
    traps: str = ""
    drafted: bool = True
    engine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """A model and its batch. new, eager_new: tokens a request. gib: a server's share of the GPU, estimated."""

    name: str
    configs: tuple[Config, ...]
    engine: dict[str, Any]
    batch: int
    prompt: int
    new: int
    eager_new: int
    gib: float


TRAPPED = (
    Config("nothing"),
    Config("all traps", traps="all"),
    Config("page-table", traps="page-table"),
    Config("all + recorder", traps="all", recorder=True),
)
OTHERS = (
    Config("nothing, eager", eager=True, base="nothing, eager"),
    Config("fork's host check, eager", {"TRAPBENCH_FORK_CHECK": "1"}, eager=True, base="nothing, eager"),
    Config("SGLANG_ENABLE_ASYNC_ASSERT=1", {"SGLANG_ENABLE_ASYNC_ASSERT": "1"}),
    Config("CUDA_LAUNCH_BLOCKING=1", {"CUDA_LAUNCH_BLOCKING": "1"}),
)
TINY = {"max_total_tokens": 65_536, "swa_full_tokens_ratio": 0.6, "mem_fraction_static": 0.6}
# SWA: 32 rows of window, eviction interval's part and a page, and a prompt on its way in.
BIG = {"max_total_tokens": 147_456, "swa_full_tokens_ratio": 0.205, "chunked_prefill_size": 4096}
SHAPES = {
    "tiny": Shape("tiny", TRAPPED + OTHERS, TINY, 32, 1000, 300, 60, 2.0),
    "26b": Shape("26b", TRAPPED, BIG | {"mem_fraction_static": 0.92}, 32, 4000, 400, 0, 14.0),
}


class Fleet:
    """The servers of all shapes, and what was read of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.started = options, time.monotonic()
        self.servers: dict[tuple[str, str], Server] = {}
        self.orders: dict[tuple[str, str], int] = {}
        self.left_out: list[str] = []
        self.readings: list[dict[str, Any]] = []
        self.machine = servers.machine()
        self.others_ran = False
        self.out, self.more = "trap_overhead", dict[str, Any]()

    def left(self) -> float:
        return float(self.options.time_limit) - (time.monotonic() - self.started)

    def start(self, shape: Shape, models: dict[str, str]) -> None:
        """All of its servers, as far as memory is free for them."""
        free = servers.free_gib()
        for index, config in enumerate(shape.configs):
            if free is not None and free < shape.gib * (index + 1) + 1.0:
                self.left_out.append(f"{shape.name}/{config.name}: {free:.1f} GiB free before this shape")
                continue
            server = self._server(shape, config, models, len(self.servers), index * self.options.stagger)
            self.servers[shape.name, config.name] = server
            self.orders[shape.name, config.name] = 0
            server.start()

    def _server(self, shape: Shape, config: Config, models: dict[str, str], number: int, after: float) -> Server:
        folder = servers.workplace() / "overhead" / f"{shape.name}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        environment = servers.environment(config.traps, "", config.recorder, folder / "dumps")
        if not config.traps and not config.recorder:
            environment = {}
        environment |= config.environment | {
            "SGLANG_PLUGINS": "g4diag,g4bench",
            "TRAPBENCH_WORK": "standby",
            "TRAPBENCH_CLOCK": str(folder / "steps.i64"),
        }
        more = {"disable_cuda_graph": config.eager, "cuda_graph_bs": [8, shape.batch], "sleep_on_idle": True}
        engine = servers.ENGINE | models | shape.engine | more
        engine |= {"port": 20_000 + 150 * number, "max_running_requests": shape.batch, "decode_log_interval": 100}
        engine = {k: v for k, v in engine.items() if config.drafted or not k.startswith("speculative")} | config.engine
        job = Job(
            engine=engine,
            patches=cures(eager=config.eager),
            folder=folder,
            seconds=max(5.0, self.left()),
            environment=environment,
            requests=1,
            prompt_tokens=shape.prompt,
            new_tokens=1,
        )
        return Server(f"{shape.name}/{config.name}", job, after)

    def wait_ready(self, shape: Shape, until: float) -> None:
        """Until each is ready or dead, or `until` (monotonic)."""
        keys = [(shape.name, config.name) for config in shape.configs]
        mine = [self.servers[key] for key in keys if key in self.servers]
        while time.monotonic() < until and any(s.is_alive() and not s.saw("ready") for s in mine):
            time.sleep(1.0)
        states = {s.name: "ready" if s.saw("ready") else "dead" if not s.is_alive() else "not ready" for s in mine}
        print(f"{self.out}: after {time.monotonic() - self.started:.0f} s: {states}", flush=True)
        servers.stop_all(s for s in mine if not s.saw("ready"))  # its start would disturb who is timed

    def measure(self, shape: Shape, config: Config, round_number: int) -> None:
        """One batch on one server, timed by its scheduler's clock."""
        key = (shape.name, config.name)
        server = self.servers.get(key)
        if server is None or not server.is_alive() or not server.saw("ready"):
            return
        number, before = self.orders[key], servers.read_clock(server.clock)[0]
        self.orders[key] += 1
        new_tokens = shape.eager_new if config.eager else shape.new
        order = {"seed": round_number, "requests": shape.batch, "prompt_tokens": shape.prompt, "new_tokens": new_tokens}
        path = server.job.folder / f"go-{number}.json"
        path.with_suffix(".part").write_text(json.dumps(order))
        path.with_suffix(".part").rename(path)
        end = time.monotonic() + min(60.0, max(5.0, self.left()))
        row = None
        while row is None and server.is_alive() and time.monotonic() < end:
            time.sleep(0.2)
            row = server.saw("measured", number=number)
        about = {"shape": shape.name, "config": config.name, "base": config.base, "round": round_number}
        if row is None:
            # It may still run, and would disturb whoever is next.
            server.stop.set()
            server.join(10)
            self.readings.append(about | {"steps": 0, "problem": f"not served: {server.why()}"})
        else:
            rows = servers.read_clock(server.clock, before)[2]
            self.readings.append(about | servers.step_times(rows) | {"seconds": row["seconds"]})
        self.write()

    def write(self) -> list[dict[str, Any]]:
        """Everything so far to trap_overhead.json."""
        rows = summary(self.readings)
        states = {}
        for key, server in self.servers.items():
            ready, armed = server.saw("ready"), crash_log.armed(server.text())
            state = {"ready_seconds": ready and ready["at"], "armed": armed.get("traps", [])}
            state |= {"violations": len(servers.violations(server.text()))}
            if not ready or not server.is_alive():
                state["why"] = server.why()
            states["/".join(key)] = state
        content = {
            "about": __doc__,
            "options": vars(self.options),
            "machine": self.machine,
            "shapes": {name: {"engine": s.engine, "batch": s.batch, "prompt": s.prompt} for name, s in SHAPES.items()},
            "something_else_ran_on_the_gpu": self.others_ran,
            "not_run": {line: "no memory for it" for line in self.left_out},
            "summary": rows,
            "servers": states,
            "readings": self.readings,
        }
        servers.write_json(f"{self.out}.json", content | self.more)
        return rows


def summary(readings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a (shape, configuration): median step over rounds, and the median, lowest and highest ratio to its base in
    the same round. A ratio needs the same batch on both sides."""
    at = {(r["shape"], r["config"], r["round"]): r for r in readings if r.get("steps")}
    rows = []
    for shape, name in dict.fromkeys((r["shape"], r["config"]) for r in readings):
        mine = [r for r in at.values() if (r["shape"], r["config"]) == (shape, name)]
        row: dict[str, Any] = {"shape": shape, "config": name, "rounds": len(mine)}
        if mine:
            row |= {"batch": mine[0]["batch"], "steps": sum(r["steps"] for r in mine)}
            row["step_us"] = round(statistics.median(r["median_us"] for r in mine), 1)
            bases = ((r, at.get((shape, r["base"], r["round"]))) for r in mine)
            ratios = [r["median_us"] / b["median_us"] for r, b in bases if b and b["batch"] == r["batch"]]
            if ratios:
                row["ratio"] = round(statistics.median(ratios), 4)
                row["ratio_low"], row["ratio_high"] = round(min(ratios), 4), round(max(ratios), 4)
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="See the file's head.")
    parser.add_argument("--shape", default="tiny,26b")
    parser.add_argument("--rounds", type=int, default=6, help="at most; as many as the time limit allows")
    parser.add_argument("--time-limit", type=float, default=400.0)
    parser.add_argument("--wait-for", type=Path, help="time nothing before this file exists")
    parser.add_argument("--intermediate", type=int, default=3072, help="of the 26b shape's dense MLP")
    parser.add_argument("--stagger", type=float, default=1.0)
    options = parser.parse_args()
    wanted = [SHAPES[name] for name in options.shape.split(",")]
    servers.own_child()
    servers.clock_plugin(Path(tempfile.mkdtemp(prefix="g4-overhead-site-")))
    fleet = Fleet(options)
    # Started one shape after the other, so that what the second may take of the memory is known. Time is kept for
    # measuring: a shape that is not ready by then is waited for no longer.
    for index, shape in enumerate(wanted):
        pair = Path(tempfile.mkdtemp(prefix=f"g4-overhead-{shape.name}-"))
        big = shape.name == "26b"
        fleet.start(shape, servers.big_models(pair, options.intermediate) if big else servers.tiny_models(pair))
        kept = 60.0 + 40.0 * (len(wanted) - 1 - index)
        fleet.wait_ready(shape, time.monotonic() + max(1.0, fleet.left() - kept))
    while options.wait_for and not options.wait_for.exists() and fleet.left() > 60:
        time.sleep(0.5)
    fleet.others_ran = bool(options.wait_for and not options.wait_for.exists())
    print(f"trap_overhead: timing begins after {time.monotonic() - fleet.started:.0f} s", flush=True)
    last_round = 0.0
    for number in range(options.rounds):
        begun = time.monotonic()
        if number and fleet.left() < 1.2 * last_round + 15:
            break
        for shape in wanted:
            # Every other round backwards: what drifts with time does not favour the first.
            for config in shape.configs[:: -1 if number % 2 else 1]:
                if fleet.left() > 15:
                    fleet.measure(shape, config, number)
        last_round = time.monotonic() - begun
    rows = fleet.write()
    columns = ("shape", "config", "batch", "rounds", "steps", "step_us", "ratio", "ratio_low", "ratio_high")
    servers.show(columns, [[row.get(column, "-") for column in columns] for row in rows])
    for server in fleet.servers.values():
        if not server.saw("ready"):
            print(f"{server.name}: never ready: {server.why()}")
    servers.write_tails("trap_overhead-logs.txt.gz", fleet.servers.values(), 60)
    servers.stop_all(fleet.servers.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
