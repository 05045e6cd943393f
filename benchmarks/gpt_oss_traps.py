"""Another hybrid SWA target, gpt-oss's layout with an EAGLE3 draft, on three attention backends with all traps strict.

    bash tools/on_gpu.sh exec python3 benchmarks/gpt_oss_traps.py --time-limit 300

Tiny, with random weights: full and sliding layers alternate, with attention sinks; experts as in gpt-oss. One server a
backend, target and draft on it, CUDA graphs on, all traps at level strict; and one on trtllm_mha with the allocator's
rule of #18970 put back, at warn, which must be named. Writes $OUT/gpt_oss.json, logs and a dump of the named one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import other_models
import servers
from servers import Server

from g4diag.servers.run import Job

BACKENDS = ("triton", "fa4", "trtllm_mha")
FAULT = "allocator-rule"


def main() -> int:
    """0 if every healthy server finished without a violation and the faulty one is named, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=300.0)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--prompt", type=int, default=3000)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--port", type=int, default=44_000)
    parser.add_argument("--topk", type=int, default=1, help="branches a draft step; above 1 with pages of one token")
    parser.add_argument("--out", default="gpt_oss", help="name of the files in $OUT")
    parser.add_argument("--only", default="", help="names of servers, comma between: triton,fa4,trtllm_mha,faulty")
    options = parser.parse_args()
    started = build(options, other_models.gpt_oss(Path(tempfile.mkdtemp(prefix="g4-gpt-oss-"))))
    for server in started:
        server.start()
    while any(server.is_alive() for server in started):
        time.sleep(1.0)
    rows = [reading(server) for server in started]
    servers.write_json(f"{options.out}.json", {"options": vars(options), "machine": servers.machine(), "rows": rows})
    servers.write_tails(f"{options.out}-logs.txt.gz", started)
    for server in started:
        if server.name == "faulty":
            keep_dump(server, options.out)
    columns = ("server", "outcome", "finished", "accept_length", "violations", "armed")
    servers.show(columns, [[row[column] for column in columns] for row in rows])
    for row in rows:
        print(row["server"], row["error"] or row["first_violation"], row["not_armed"])
    return int(any((row["violations"] == 0) is (row["server"] == "faulty") for row in rows))


def build(options: argparse.Namespace, named: dict[str, str]) -> list[Server]:
    """One server a backend, then the faulty one."""
    todo = [(name, name, "strict", ()) for name in BACKENDS] + [("faulty", "trtllm_mha", "warn", (FAULT,))]
    found = []
    for index, (name, backend, level, patches) in enumerate(todo):
        if options.only and name not in options.only.split(","):
            continue
        folder = servers.workplace() / options.out / name
        shutil.rmtree(folder, ignore_errors=True)
        engine = other_models.engine(backend, other_models.EAGLE3) | named
        engine |= {"port": options.port + 150 * index}
        if options.topk > 1:
            tree = 2 * options.topk + 2
            engine |= {"speculative_eagle_topk": options.topk, "speculative_num_draft_tokens": tree, "page_size": 1}
        job = Job(
            engine=engine,
            patches=tuple(patches),
            folder=folder,
            seconds=options.time_limit,
            environment=servers.environment(traps="all", level=level, recorder=True, dumps=folder / "dumps"),
            requests=options.requests,
            prompt_tokens=options.prompt,
            new_tokens=options.new,
            vocab=other_models.VOCAB,
        )
        found.append(Server(name, job, 2.0 * index))
    return found


def reading(server: Server) -> dict[str, Any]:
    """One server's row."""
    text, result = server.text(), server.result
    found = servers.violations(text)
    return {
        "server": server.name,
        "outcome": result.outcome if result else "not run",
        "finished": f"{result.finished}/{result.requests}" if result else "-",
        "accept_length": result.accept_length if result else None,
        "violations": len(found),
        "first_violation": found[0][:900] if found else "",
        "armed": text.count("g4diag level="),
        "not_armed": [line for line in text.splitlines() if "NOT ARMED" in line or "NOT WATCHED" in line][:4],
        "error": "" if result and result.outcome == "finished" else server.why(),
    }


def keep_dump(server: Server, name: str) -> None:
    """The dump of the read, beside the tables."""
    for path in sorted((server.job.folder / "dumps").glob("*page_table*.pt"))[:1]:
        shutil.copyfile(path, servers.out() / f"{name}-faulty.pt")


if __name__ == "__main__":
    sys.exit(main())
