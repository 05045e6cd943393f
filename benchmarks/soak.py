"""False alarms: healthy servers with every trap strict and the recorder on, under mixed traffic for minutes.

    bash tools/on_gpu.sh exec python3 benchmarks/soak.py --seconds 300 [--servers calm,tight,eagle,whole-prefill,mla]

A server of each kind that is asked for: see soak_servers.py. If upstream ends one of them, the others' minutes still
count. Traffic: see `server_work.py`; the same for the same --seed up to the server's own timing. Writes
$OUT/soak.json, or soak-NAME.json, every 10 s too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import servers
from servers import Server, cures
from soak_servers import KINDS, Models

from g4diag.servers.run import Job


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--time-limit", type=float, default=430.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--servers", "--pools", default="calm,tight", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--backend", default="", help="of calm and tight; trtllm_mha with triton for prefill")
    parser.add_argument("--out", default="", help="name of the files in $OUT; by default of the backend")
    parser.add_argument("--port", type=int, default=29_000, help="of the first; two runs at a time must not share any")
    parser.add_argument("--patches", default="", help="besides what a healthy server needs, comma between")
    options = parser.parse_args()
    servers.own_child()
    servers.clock_plugin(Path(tempfile.mkdtemp(prefix="g4-soak-site-")))
    started = build(options, Models(Path(tempfile.mkdtemp(prefix="g4-soak-models-"))))
    for server in started:
        server.start()
    last = 0.0
    while any(server.is_alive() for server in started):
        time.sleep(1.0)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            report(options, started)
    rows = report(options, started)
    servers.write_tails(f"{_named(options)}-logs.txt.gz", started)
    columns = ("server", "outcome", "soaked_seconds", "alive_at_end", "violations", "retracted")
    servers.show(columns, [[row[column] for column in columns] for row in rows])
    for row in rows:
        print(row["server"], row["counts"], row["error"] or row["first_violations"])
    unseen = [row["server"] for row in rows if not row["counts"].get("stopped by itself")]
    for name in unseen:
        print(f"soak: {name}: no request stopped by itself, which is to be part of the load")
    blind = never_judged([row["judged_on_the_host"] for row in rows])
    print(f"soak: traps that judged nothing on the host in any server: {', '.join(blind) or 'none'}")
    idle = judged_nothing({row["server"]: row["judged_on_the_host"] for row in rows})
    print(f"soak: servers in which nothing was judged on the host: {', '.join(idle) or 'none'}")
    return int(bool(unseen or blind or idle) or any(row["violations"] or not row["alive_at_end"] for row in rows))


def judged(server: Server) -> dict[str, int]:
    """{trap: views} so far; nothing until the first 100 steps are over."""
    file = server.clock.with_name("judged.json")
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def never_judged(of_servers: Sequence[Mapping[str, int]]) -> list[str]:
    """Traps of which no server judged anything; those of no server, where none said what it judged."""
    total = Counter[str]()
    for found in of_servers:
        total.update(found)
    return sorted(name for name, views in total.items() if not views) if total else ["all of them"]


def judged_nothing(of_servers: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Servers in which no trap judged anything: another's views are none of theirs."""
    return [name for name, found in of_servers.items() if not any(found.values())]


def _named(options: argparse.Namespace) -> str:
    return options.out or (f"soak-{options.backend}" if options.backend else "soak")


def build(options: argparse.Namespace, models: Models) -> list[Server]:
    found = []
    for index, name in enumerate(options.servers.split(",")):
        folder = servers.workplace() / _named(options) / name
        shutil.rmtree(folder, ignore_errors=True)
        environment = servers.environment(traps="all", level="strict", recorder=True, dumps=folder / "dumps")
        environment |= {
            "SGLANG_PLUGINS": "g4diag,g4bench",
            "TRAPBENCH_WORK": "soak",
            "TRAPBENCH_SECONDS": str(options.seconds),
            "TRAPBENCH_CLOCK": str(folder / "steps.i64"),
            "TRAPBENCH_LAUNCHES": "1",
            "TRAPBENCH_JUDGED": "1",
        }
        engine = KINDS[name](models, options.backend) | {"port": options.port + 150 * index, "decode_log_interval": 40}
        job = Job(
            engine=engine,
            patches=(*cures(), *filter(None, options.patches.split(","))),
            folder=folder,
            seconds=options.time_limit,
            environment=environment,
            seed=options.seed + index,
            requests=1,
            new_tokens=1,
        )
        found.append(Server(name, job))
    return found


def report(options: argparse.Namespace, started: list[Server]) -> list[dict[str, Any]]:
    """Rows so far, to soak.json too."""
    rows = [reading(server) for server in started]
    servers.write_json(
        f"{_named(options)}.json", {"options": vars(options), "machine": servers.machine(), "rows": rows}
    )
    return rows


def reading(server: Server) -> dict[str, Any]:
    """One server's row, from its files alone, whether it runs or not."""
    text, events, result = server.text(), server.events(), server.result
    progress: dict[str, Any] = next((row for row in reversed(events) if row["event"] == "progress"), {})
    alive = next((row for row in events if row["event"] == "alive"), None)
    found = servers.violations(text)
    steps, launches, rows = servers.read_clock(server.clock)
    return {
        "server": server.name,
        "outcome": result.outcome if result else server.problem or "running",
        "error": "" if alive else (server.why() if result else ""),
        "soaked_seconds": progress.get("seconds", 0),
        "alive_at_end": bool(alive and alive["answered"] == 32),
        "same_canary_answer": alive and alive["same_answer"],
        "counts": progress.get("counts", {}),
        "cached_tokens": progress.get("cached_tokens", 0),
        "client_errors": progress.get("errors", []),
        "retracted": servers.retractions(text),
        "violations": len(found) + bool(servers.tripped(text)),
        "first_violations": [line[:600] for line in found[:3]],
        "steps": steps,
        "decode_steps": sum(row[1] for row in rows),
        "largest_batch": max((row[2] for row in rows), default=0),
        # A captured launch counts once here and runs at every replay: decode_steps tells how often.
        "device_check_launches_outside_replays": launches,
        "judged_on_the_host": judged(server),
        "swa_use": result.swa_use if result else None,
        "armed": dict(result.armed) if result else {},
    }


if __name__ == "__main__":
    sys.exit(main())
