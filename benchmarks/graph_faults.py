"""Faults in replayed CUDA graphs, on a GPU: which live trap names each, and whether the healthy twin is silent.

    bash tools/on_gpu.sh exec python3 benchmarks/graph_faults.py [--time-limit 300]

Servers with decode graphs on and every trap armed at level warn: in one, `graph_faults_plugin.py` switches one fault
after another on inside the graphs that are there; those that may take the context with them have a server each, beside
it, and so have the graphs of `graph_faults_buffers.py`. Writes $OUT/graph_faults.json with a row a fault. 0: the
healthy steps were silent, every fault was named by the trap of its kind and by no other, as an earlier run has it in
tests/injected/graphs.toml, and graphs were replayed meanwhile.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import graph_faults_plugin
import servers
from graph_faults_buffers import PLACES
from servers import Server
from soak_servers import KINDS, Models

from g4diag.servers.run import Job

# A place's server, by what soak_servers.py calls it.
SERVERS = {"draft-steps": "eagle", "draft-extend": "eagle", "whole-prefill": "whole-prefill", "mla": "mla"}


def summary(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """A row a fault: the traps that fired, by how often. text: the server's log, which has the last word of a fault
    that ended it before the steps were over."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.get("begun"):
            found[row["fault"]] = {"fault": row["fault"], "batch": row["batch"], "ended": True, "traps": {}, "said": []}
        else:
            found[row["fault"]] |= {"ended": False, "traps": row["seen"], "said": row["said"], "graphs": row["graphs"]}
    if found and (last := list(found.values())[-1])["ended"]:
        lines = servers.violations(text.rpartition(f"g4faults begins: {last['fault']}")[2])
        last["traps"] = dict.fromkeys((line.split("trap=")[1].split()[0] for line in lines), 1)
        last["said"] = [line[:400] for line in lines[:6]]
    return list(found.values())


def start(name: str, number: int, options: argparse.Namespace, models: Models) -> Server:
    """name: of the fault that it runs alone or of the place whose faults it runs, "" for all others."""
    folder = servers.workplace() / "graph-faults" / (name or "others")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = servers.environment(traps="all", level="warn", dumps=folder / "dumps") | {
        # The faults first: our hooks stand around them.
        "SGLANG_PLUGINS": "g4faults,g4diag",
        "TRAPBENCH_WORK": "standby",
        "GRAPHFAULTS": str(folder),
        "GRAPHFAULTS_ALONE": name,
    }
    engine = KINDS[SERVERS.get(name, "calm")](models, "")
    engine |= {"port": options.port + 150 * number, "cuda_graph_bs": [options.requests], "decode_log_interval": 40}
    engine |= {"max_running_requests": options.requests, "swa_full_tokens_ratio": 0.5}
    order = {"seed": 1, "requests": options.requests, "prompt_tokens": 700, "new_tokens": options.new}
    if name == "whole-prefill":  # many prefills, each of so few tokens that a graph has them all
        order |= {"requests": 80 * options.requests, "prompt_tokens": 200, "new_tokens": 8}
    job = Job(
        engine=engine,
        patches=servers.cures(eager=False),
        folder=folder,
        seconds=options.time_limit,
        environment=environment,
        requests=1,
        prompt_tokens=order["prompt_tokens"],
        new_tokens=1,
    )
    server = Server(name or "others", job)
    server.start()
    (folder / "go-0.json").write_text(json.dumps(order))  # for when it is ready
    return server


def reading(server: Server) -> list[dict[str, Any]]:
    """What it said so far."""
    file = server.job.folder / "faults.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [row | {"server": server.name} for row in summary(rows, server.text())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=300.0)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--new", type=int, default=400)
    parser.add_argument("--port", type=int, default=31_000)
    parser.add_argument("--only", default="", help="servers, comma between: a fault that runs alone, or a place")
    options = parser.parse_args()
    end = time.monotonic() + options.time_limit
    servers.own_child()
    beside = ("graph_faults_drive", "graph_faults_buffers")
    servers.plugin(Path(tempfile.mkdtemp(prefix="g4-faults-site-")), "g4faults", "graph_faults_plugin", *beside)
    models = Models(Path(tempfile.mkdtemp(prefix="g4-faults-models-")))
    named = options.only.split(",") if options.only else ("", *graph_faults_plugin.ALONE, *PLACES)
    started = [start(name, number, options, models) for number, name in enumerate(named)]
    while time.monotonic() < end - 10 and any(s.is_alive() and not s.saw("measured", number=0) for s in started):
        time.sleep(0.5)
    time.sleep(3.0)
    found = [row for server in started for row in reading(server)]
    why = {server.name: server.why() for server in started}
    content = {"about": __doc__, "options": vars(options), "machine": servers.machine(), "rows": found, "why": why}
    servers.write_json("graph_faults.json", content)
    servers.write_tails("graph_faults-logs.txt.gz", started, 200)
    servers.show(
        ("server", "fault", "batch", "server ended", "traps"),
        [(row["server"], row["fault"], row["batch"], row["ended"], ", ".join(row["traps"]) or "none") for row in found],
    )
    for row in found:
        print(row["fault"], *row["said"][:2], sep="\n   ")
    servers.stop_all(started)
    ran = {(row["server"], row["fault"]) for row in found}
    missing = sorted(f"{server}: {fault}" for server, fault in wanted(named) - ran)
    wrong = [row["fault"] for row in found if not is_named_right(row["fault"], row["traps"])]
    unseen = [row["fault"] for row in found if row["server"] in PLACES and not row.get("graphs")]
    print(f"not run: {', '.join(missing) or 'none'}; not named as its kind is: {', '.join(wrong) or 'none'}")
    print(f"no graph was replayed for: {', '.join(unseen) or 'none'}")
    return int(bool(missing or wrong or unseen))


def is_named_right(fault: str, traps: Collection[str]) -> bool:
    """Whether these traps are those of the fault's kind; none for healthy steps. Some trap, where nobody ran it yet."""
    if fault == "healthy":
        return not traps
    runs = tomllib.loads((servers.ROOT / "tests/injected/graphs.toml").read_text(encoding="utf-8"))["run"]
    known = [run["faults"][fault] for run in runs if fault in run["faults"]]
    return set(traps) == set(known[-1]) if known else bool(traps)


def wanted(named: Iterable[str]) -> set[tuple[str, str]]:
    """(server, fault) of each that these servers are to run."""
    found = set()
    for name in named:
        faults = graph_faults_plugin.names() if not name else PLACES[name].faults if name in PLACES else [name]
        found |= {(name or "others", fault) for fault in ("healthy", *faults)}
    return found


if __name__ == "__main__":
    sys.exit(main())
