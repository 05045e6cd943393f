"""The faulty rule on real servers under each trap level: does the illegal address become a named fact?

    bash tools/on_gpu.sh exec python3 benchmarks/trap_levels.py [--time-limit 240]

{eager, graph} x {warn, strict, contain} and one healthy server whose greedy tokens are the reference, all at a time
on one GPU (a tiny server takes 2 to 3 GiB of it). Writes $OUT/trap_levels.json as results come, trap_levels-logs.txt.gz
and two dumps, trap_levels-PATH-LEVEL.pt.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import servers
from servers import FAULT, Server, cures

from g4diag.servers.run import Job

LEVELS, PATHS = ("warn", "strict", "contain"), ("eager", "graph")
HEALTHY = "graph-healthy"
KEPT_DUMPS = ("graph-contain", "eager-warn", "graph-strict", "graph-warn", "eager-contain", "eager-strict")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traps", default="page-table")
    parser.add_argument("--time-limit", type=float, default=240.0)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--prompt", type=int, default=4000)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--stagger", type=float, default=2.0)
    parser.add_argument("--port", type=int, default=31_000, help="of the first; two runs at a time must not share any")
    parser.add_argument("--out", default="trap_levels", help="name of the files in $OUT")
    parser.add_argument("--tp-size", type=int, default=1, help="GPUs of each server")
    parser.add_argument("--backend", default="", help="of target and draft; trtllm_mha with triton for prefill")
    parser.add_argument("--fault", default=FAULT, help="patches of the faulty servers, comma between; '' as released")
    parser.add_argument("--cure", default="", help="patches of the healthy server besides what every one needs")
    parser.add_argument("--only", default="", help="names of servers, comma between: graph-warn,graph-healthy")
    options = parser.parse_args()
    started = build(options, Path(tempfile.mkdtemp(prefix="g4-levels-pair-")))
    for server in started:
        server.start()
    said: set[str] = set()
    while len(said) < len(started):
        time.sleep(1.0)
        for server in started:
            if not server.is_alive() and server.name not in said:
                said.add(server.name)
                report(options, started)
                outcome = server.result.outcome if server.result else server.problem
                print(f"trap_levels: {server.name}: {outcome}", flush=True)
    rows = report(options, started)
    keep_dumps(options.out, started)
    servers.write_tails(f"{options.out}-logs.txt.gz", started)
    columns = ("server", "outcome", "finished", "tokens_as_healthy", "violations", "seconds", "not_named")
    servers.show(columns, [[row[column] for column in columns] for row in rows])
    for row in rows:
        for key in ("error", "first_violation"):
            if row[key]:
                print(f"{row['server']} {key}: {row[key][:400]}")
    return 0


def build(options: argparse.Namespace, pair: Path) -> list[Server]:
    """The seven, slowest to finish first."""
    models = servers.tiny_models(pair)
    todo = [(path, level) for path in PATHS for level in reversed(LEVELS)] + [("graph", "healthy")]
    todo = [pair for pair in todo if not options.only or "-".join(pair) in options.only.split(",")]
    found = []
    for index, (path, level) in enumerate(todo):
        name = f"{path}-{level}"
        folder = servers.workplace() / options.out / name
        shutil.rmtree(folder, ignore_errors=True)
        healthy = level == "healthy"
        environment = servers.environment(
            traps="all" if healthy else options.traps,
            level="strict" if healthy else level,
            recorder=True,
            dumps=folder / "dumps",
        )
        engine = servers.on_backend(options.backend) | models
        engine |= {"disable_cuda_graph": path == "eager", "port": options.port + 150 * index}
        engine["tp_size"] = options.tp_size
        job = Job(
            engine=engine,
            patches=(*filter(None, (options.cure if healthy else options.fault).split(",")), *cures()),
            folder=folder,
            seconds=options.time_limit - index * options.stagger,
            environment=environment,
            requests=options.requests,
            prompt_tokens=options.prompt,
            new_tokens=options.new,
        )
        found.append(Server(name, job, index * options.stagger))
    return found


def report(options: argparse.Namespace, started: list[Server]) -> list[dict[str, Any]]:
    """Rows so far, to trap_levels.json too."""
    reference = next((s.result.tokens for s in started if s.name == HEALTHY and s.result), {})
    rows = [reading(server, dict(reference)) for server in started if not server.is_alive()]
    about = {"options": vars(options), "engine": servers.ENGINE, "machine": servers.machine()}
    servers.write_json(f"{options.out}.json", about | {"rows": rows})
    return rows


def reading(server: Server, reference: dict[int, tuple[int, ...]]) -> dict[str, Any]:
    """One server's row. tokens_as_healthy: of the requests both finished."""
    text, result = server.text(), server.result
    found, tripped = servers.violations(text), servers.tripped(text)
    tokens = dict(result.tokens) if result else {}
    both = set(tokens) & set(reference)
    same = sum(tokens[index] == reference[index] for index in both)
    outcome = result.outcome if result else "not run"
    said = tripped or (found[0] if found else "")
    return {
        "server": server.name,
        "outcome": "trap-tripped" if tripped and outcome != "finished" else outcome,
        "log_says": outcome,
        "finished": f"{result.finished}/{result.requests}" if result else "-",
        "tokens_as_healthy": f"{same}/{len(both)}",
        "whole_workload_as_healthy": bool(tokens) and len(tokens) == server.job.requests == len(both) == same,
        "violations": len(found),
        "first_violation": found[0][:900] if found else "",
        "error": tripped or (result.error if result else server.problem),
        "not_named": ",".join(servers.not_named(said)) if said else "-",
        "seconds": round(result.seconds, 1) if result else 0,
        "start_seconds": result.start_seconds if result else None,
        "accept_length": result.accept_length if result else None,
        "swa_use": result.swa_use if result else None,
        "status": result.status if result else None,
        "armed": dict(result.armed) if result else {},
        "counters": servers.last_counters(text),
        "dumps": {path.name: path.stat().st_size for path in dumps(server)},
    }


def dumps(server: Server) -> list[Path]:
    """Oldest first."""
    return sorted((server.job.folder / "dumps").glob("*.pt"), key=lambda path: path.stat().st_mtime_ns)


def keep_dumps(prefix: str, started: list[Server], count: int = 2) -> None:
    """The first dump of the two most telling servers that wrote one."""
    by_name = {server.name: server for server in started}
    for name in [name for name in KEPT_DUMPS if name in by_name and dumps(by_name[name])][:count]:
        shutil.copyfile(dumps(by_name[name])[0], servers.out() / f"{prefix}-{name}.pt")


if __name__ == "__main__":
    sys.exit(main())
