"""Faults in replayed CUDA graphs, on a GPU: which live trap names each, and whether the healthy twin is silent.

    bash tools/on_gpu.sh exec python3 benchmarks/graph_faults.py [--time-limit 300]

One server, decode graphs on, every trap armed at level warn: `graph_faults_plugin.py` switches one fault after another
on inside the graphs that are there. Those that may take the context with them come last. Writes
$OUT/graph_faults.json with a row a fault. 0: the healthy steps were silent and every fault was named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import graph_faults_plugin
import servers
from servers import Server

from g4diag.servers import plugin_site
from g4diag.servers.run import Job


def plugin(folder: Path) -> None:
    """Make `g4faults` loadable in every server that this process starts."""
    info = folder / "g4faults-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: g4faults\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{plugin_site.GROUP}]\ng4faults = graph_faults_plugin:register\n")
    shutil.copyfile(graph_faults_plugin.__file__, folder / "graph_faults_plugin.py")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def summary(rows: list[dict[str, Any]], after: list[str]) -> list[dict[str, Any]]:
    """A row a fault: the traps that fired in a graph, by how often. after: names of traps in the log's violation lines
    since the last fault began, where the server ended before it could say more."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.get("begun"):
            found[row["fault"]] = {"fault": row["fault"], "batch": row["batch"], "ended": True, "traps": {}, "said": []}
        else:
            found[row["fault"]] |= {"ended": False, "traps": row["seen"], "said": row["said"]}
    if found and (last := list(found.values())[-1])["ended"]:
        last["traps"] = dict.fromkeys(after, 1)
    return list(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=300.0)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--new", type=int, default=500)
    parser.add_argument("--port", type=int, default=31_000)
    options = parser.parse_args()
    end = time.monotonic() + options.time_limit
    folder = servers.workplace() / "graph-faults"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    servers.own_child()
    plugin(Path(tempfile.mkdtemp(prefix="g4-faults-site-")))
    models = servers.tiny_models(Path(tempfile.mkdtemp(prefix="g4-faults-pair-")))
    environment = servers.environment(traps="all", level="warn", dumps=folder / "dumps") | {
        # The faults first: our hooks stand around them.
        "SGLANG_PLUGINS": "g4faults,g4diag",
        "TRAPBENCH_WORK": "standby",
        "GRAPHFAULTS": str(folder),
    }
    engine = servers.ENGINE | models | {"port": options.port, "cuda_graph_bs": [options.requests]}
    engine |= {"max_running_requests": options.requests, "decode_log_interval": 40, "swa_full_tokens_ratio": 0.5}
    job = Job(
        engine=engine,
        patches=servers.cures(eager=False),
        folder=folder,
        seconds=options.time_limit,
        environment=environment,
        requests=1,
        prompt_tokens=700,
        new_tokens=1,
    )
    server = Server("graph-faults", job)
    server.start()
    while server.is_alive() and time.monotonic() < end and not server.saw("ready"):
        time.sleep(0.5)
    order = {"seed": 1, "requests": options.requests, "prompt_tokens": 700, "new_tokens": options.new}
    (folder / "go-0.json").write_text(json.dumps(order))
    while server.is_alive() and time.monotonic() < end and not server.saw("measured", number=0):
        time.sleep(0.5)
    time.sleep(2.0)
    text, file = server.text(), folder / "faults.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    lines = servers.violations(text)
    found = summary(rows, [line.split("trap=")[1].split()[0] for line in lines[-3:]])
    servers.write_json(
        "graph_faults.json",
        {"about": __doc__, "machine": servers.machine(), "rows": found, "lines": lines[:60], "why": server.why()},
    )
    servers.write_tails("graph_faults-logs.txt.gz", [server], 200)
    servers.show(
        ("fault", "batch", "server ended", "traps"),
        [(row["fault"], row["batch"], row["ended"], ", ".join(row["traps"]) or "none") for row in found],
    )
    for row in found:
        print(row["fault"], *row["said"][:2], sep="\n   ")
    servers.stop_all([server])
    wanted = {"healthy", *graph_faults_plugin.FLAGS, *graph_faults_plugin.STATE}
    missing = sorted(wanted - {row["fault"] for row in found})
    wrong = [row["fault"] for row in found if bool(row["traps"]) == (row["fault"] == "healthy")]
    print(f"not run: {', '.join(missing) or 'none'}; not named, or healthy and named: {', '.join(wrong) or 'none'}")
    return int(bool(missing or wrong))


if __name__ == "__main__":
    sys.exit(main())
