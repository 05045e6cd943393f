"""`g4diag serve` over the faulty server on a GPU: does it name the read after a death nobody saw coming?

    bash tools/on_gpu.sh exec python3 benchmarks/serve_postmortem.py [--time-limit 200] [--path eager]

The command a user would type: faulty rule, page-table traps at `warn`, --coredump; 24 requests over HTTP until the
server is dead. Then `g4diag inspect` on what it left, all of it and each file. Writes $OUT/serve_postmortem.json and
the post-mortem, ring and log in serve_postmortem.tar.gz; core dumps stay where they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import servers
from servers import FAULT, cures

from g4diag.servers import child as server_child
from g4diag.stack.pairs import tiny_pair
from g4diag.stack.releases import current

G4DIAG = (sys.executable, "-m", "g4diag")


def flags(engine: dict[str, Any]) -> Iterator[str]:
    """Engine arguments as a command line."""
    for name, value in engine.items():
        if value is False or name == "enable_multimodal":
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield from map(str, value if isinstance(value, list) else [value])


def ask(port: int, ids: list[int], new_tokens: int, answers: list[Any]) -> None:
    """One greedy request; what came back, or why nothing did."""
    body = {"input_ids": ids, "sampling_params": {"temperature": 0, "max_new_tokens": new_tokens, "ignore_eos": True}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/generate", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            answers.append(len(json.loads(response.read())["output_ids"]))
    except (OSError, ValueError, KeyError) as error:
        answers.append(f"{type(error).__name__}: {error}"[:200])


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return response.status == 200
    except (OSError, urllib.error.HTTPError):
        return False


def load(process: subprocess.Popen[bytes], port: int, end: float, options: argparse.Namespace) -> tuple[Any, list[Any]]:
    """(seconds until it was up, or None; answers)."""
    started, answers = time.monotonic(), []
    while process.poll() is None and time.monotonic() < end and not is_up(port):
        time.sleep(0.5)
    if process.poll() is not None or time.monotonic() > end:
        return None, answers
    up = time.monotonic() - started
    rows = server_child.prompts(0, options.requests, options.prompt, tiny_pair.VOCAB)
    threads = [threading.Thread(target=ask, args=(port, row, options.new, answers), daemon=True) for row in rows]
    for thread in threads:
        thread.start()
    while process.poll() is None and time.monotonic() < end and any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
    return round(up, 1), answers


def inspected(*paths: Path) -> dict[str, Any]:
    """What `g4diag inspect` says of them."""
    done = subprocess.run([*G4DIAG, "inspect", *map(str, paths)], capture_output=True, text=True, timeout=120)
    return {"exit": done.returncode, "says": done.stdout[-6000:], "stderr": done.stderr[-600:]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=200.0)
    parser.add_argument("--path", choices=("eager", "graph"), default="eager")
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--prompt", type=int, default=4000)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--port", type=int, default=30_700)
    options = parser.parse_args()
    end = time.monotonic() + options.time_limit
    folder = Path(tempfile.mkdtemp(prefix="g4-serve-"))
    dumps = folder / "dumps"
    engine = servers.ENGINE | servers.tiny_models(folder / "pair") | {"port": options.port, "host": "127.0.0.1"}
    if options.path == "eager":
        engine["disable_cuda_graph"] = True
    ours = [
        "--patches",
        ",".join([FAULT, *cures(), "mm-disabled"]),
        "--traps",
        "page-table",
        "--coredump",
        "--dump-dir",
        str(dumps),
    ]
    command = [*G4DIAG, "serve", *ours, "--", *flags(current().arguments(engine))]
    print("serve_postmortem:", " ".join(command), flush=True)
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        up, answers = load(process, options.port, end, options)
        try:
            process.wait(max(1.0, min(120.0, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(40)
    text = (folder / "serve.log").read_text(errors="replace")
    said = [line for line in text.splitlines() if line.startswith("g4diag serve:") or "g4diag violation" in line]
    left = sorted(path for path in dumps.rglob("*") if path.is_file())
    content = {
        "command": command,
        "machine": servers.machine(),
        "up_seconds": up,
        "answers": answers,
        "exit": process.returncode,
        "serve_said": said[-20:],
        "left": {path.name: path.stat().st_size for path in left},
        "inspect_folder": inspected(dumps),
        "inspect": {p.name: inspected(p) for p in left if p.suffix in (".json", ".pt")},
    }
    servers.write_json("serve_postmortem.json", content)
    with tarfile.open(servers.out() / "serve_postmortem.tar.gz", "w:gz") as archive:
        for path in left:
            if path.stat().st_size < 4 << 20:
                archive.add(path, path.name)
    for line in said[-12:]:
        print(line[:500])
    for name, row in content["inspect"].items():
        print(f"--- inspect {name}: exit {row['exit']}\n{row['says'][:2500]}{row['stderr']}")
    if up is None:
        print(text[-3000:])
    os.sync()
    return 0 if process.returncode not in (0, None) and content["inspect"] else 1


if __name__ == "__main__":
    sys.exit(main())
