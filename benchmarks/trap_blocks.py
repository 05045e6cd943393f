"""What traps cost a healthy server, told inside one decode run: what is armed changes every 50 steps.

    bash tools/on_gpu.sh exec python3 benchmarks/trap_blocks.py --shape 26b-a4b [--time-limit 550] [--block-steps 25]
    ... trap_blocks.py --hook-times 60      # the last 60 s not for what a step takes, but the host's time in each hook
    .venv/bin/python benchmarks/trap_blocks.py --pool A B      # no GPU: runs that wrote A.json, A.npz and so on, as one

One server (`trap_toggle.py`'s), everything armed while its graphs are captured, so the device's share of the captured
checks is in every mode alike; RESULTS.md has it apart. Cycles of blocks: nothing, page-table traps, all traps, all and
the recorder, each once a cycle in random order. A step is the time between two decode batches of the whole batch; the
first steps after a change are left out. How ratios and their intervals are told from that: block_ratios.py. Writes
$OUT/OUT.json, with all steps in $OUT/OUT.npz.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import expert_pair
import hook_times
import numpy as np
import servers
import trap_toggle
from block_ratios import FIGURES, NAMES, Steps, noise, pooled, ratios, settling
from trap_overhead import Shape
from trap_toggle import EXPERTS, MODES, SHAPES, Bench, wait_for

Run = tuple[list[dict[str, Any]], list[Steps], list[int | None]]  # blocks, steps, begun
LEFT_OUT = 3  # steps after a change: the queue was empty meanwhile


def steps_of(blocks: Sequence[Mapping[str, Any]], rows: Sequence[tuple[int, int, int]], batch: int) -> list[Steps]:
    """float64 microseconds of each block's steps. rows: the clock's, (ns, is decode, batch)."""
    found = []
    for block in blocks:
        of_block = rows[block["first"] : block["end"]]
        gaps = [
            (after[0] - before[0]) / 1000
            for before, after in zip(of_block[LEFT_OUT:], of_block[LEFT_OUT + 1 :], strict=False)
            if before[1] == after[1] == 1 and before[2] == after[2] == batch
        ]
        found.append(np.array(gaps))
    return found


def places(blocks: Sequence[Mapping[str, Any]], rows: Sequence[tuple[int, int, int]], batch: int) -> list[int | None]:
    """Of each block the row at which the batch began that it is wholly of; None where it is of two."""
    begun, start, found = [], 0, []
    for index, row in enumerate(rows):
        if row[1:] != (1, batch):
            start = index + 1
        begun.append(start)
    for block in blocks:
        first = begun[block["first"]]
        found.append(first if first <= block["first"] and begun[block["end"] - 1] == first else None)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="26b", choices=sorted(SHAPES))
    parser.add_argument("--steps", "--block-steps", type=int, default=50, help="decode steps a block")
    parser.add_argument("--cycles", type=int, default=400, help="at most; as many as the time limit allows")
    parser.add_argument("--prompt", type=int, default=1000)
    parser.add_argument("--new", type=int, default=3000, help="tokens a request, before the next batch is sent")
    parser.add_argument("--time-limit", type=float, default=540.0)
    parser.add_argument("--intermediate", type=int, default=3072)
    parser.add_argument("--out", default="trap_blocks", help="name of the files in $OUT")
    parser.add_argument("--hook-times", type=float, default=0.0, help="seconds at the end in which each hook is timed")
    parser.add_argument("--number", type=int, default=0, help="of this server, where several run on one machine")
    parser.add_argument("--after", type=Path, help="a file: measure once it is there, so others may end meanwhile")
    parser.add_argument("--pool", nargs="+", type=Path, help="runs' files, without .json: judge them, and run nothing")
    options = parser.parse_args()
    if options.pool:
        runs = [read(path) for path in options.pool]
        show_each(options.pool, runs)
        show(*pooled(runs))
        return 0
    end = time.monotonic() + options.time_limit
    shape = replace(SHAPES[options.shape], prompt=options.prompt, new=options.new)
    servers.own_child()
    servers.clock_plugin(Path(tempfile.mkdtemp(prefix="g4-blocks-site-")))
    asked = {"steps": options.steps, "batch": shape.batch, "modes": {name: MODES[name] for name in NAMES}}
    more = {"TRAPBENCH_BLOCKS": json.dumps(asked), "TRAPBENCH_MODES": ""}
    times, folder = servers.out() / f"{options.out}-hooks.json", servers.workplace() / "toggle" / shape.name
    untimed = list[int]()
    if options.hook_times:
        servers.plugin(Path(tempfile.mkdtemp(prefix="g4-times-site-")), "g4times", "hook_times")
        more |= {"SGLANG_PLUGINS": trap_toggle.plugins(shape, "g4times"), "HOOKTIMES_FILE": str(times)}
        times.with_suffix(".on").unlink(missing_ok=True)

        def switch() -> None:
            untimed.append(_count(folder / "blocks.jsonl"))
            times.with_suffix(".on").touch()

        timer = threading.Timer(end - 15 - options.hook_times - time.monotonic(), switch)
        timer.daemon = True
        timer.start()
    server = trap_toggle.start(shape, options.number, options.time_limit, options.intermediate, (shape.batch,), **more)
    bench = Bench(shape, server, end - 15)
    if not wait_for(server, lambda: server.saw("ready"), end):
        print(f"trap_blocks: never ready: {server.why()}")
        return 1
    print(f"trap_blocks: ready, {end - time.monotonic():.0f} s left", flush=True)
    if options.after and not wait_for(server, options.after.exists, end):
        print(f"trap_blocks: {options.after} never came, or the server ended: {server.why()}")
        return 1
    ledger = server.job.folder / "blocks.jsonl"
    used = counted(bench, shape) if shape.name == EXPERTS else {}
    batches = 0
    while time.monotonic() < end - 15 and server.is_alive() and _count(ledger) < options.cycles * len(NAMES):
        bench.serve(shape.batch, shape.new, seed=0)
        batches += 1
        print(f"trap_blocks: batch {batches}, {_count(ledger)} blocks, {end - time.monotonic():.0f} s left", flush=True)
    blocks = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    blocks = blocks[: untimed[0]] if untimed else blocks
    rows = servers.read_clock(server.clock)[2]
    steps = steps_of(blocks, rows, shape.batch)
    begun = places(blocks, rows, shape.batch)
    held: dict[str, Any] = {str(index): found for index, found in enumerate(steps)}
    np.savez_compressed(servers.out() / f"{options.out}.npz", **held)
    blind = [b["mode"] for b in blocks if b["mode"] != "none" and not (b["traps"] and b["seen"] >= options.steps)]
    content: dict[str, Any] = {
        "about": __doc__,
        "options": vars(options),
        "experts": used,
        "machine": servers.machine(),
        "blocks": blocks,
    }
    content |= {"begun": begun, "blind": blind, "violations": len(servers.violations(server.text()))}
    servers.write_json(f"{options.out}.json", content)
    servers.write_tails(f"{options.out}-logs.txt.gz", [server], 60)
    servers.stop_all([server])
    # What was measured is kept whatever comes of judging it.
    servers.write_json(f"{options.out}.json", content | show(blocks, steps, begun))
    armed = {name: [b["seconds"] for b in blocks if b["mode"] == name] for name in NAMES}
    print({name: round(float(np.median(seconds)), 3) for name, seconds in armed.items()}, "s a change")
    print(f"violations: {content['violations']}; blocks in which armed traps saw too few steps: {len(blind)}")
    if problem := used.get("problem"):
        print(f"trap_blocks: the experts' load is not the model's: {problem}")
    return 1 if blind or problem or (untimed and not show_hooks(times)) else 0


def counted(bench: Bench, shape: Shape) -> dict[str, Any]:
    """How many experts the layers use for one batch of prompts of its own."""
    bench.census(True)
    bench.serve(shape.batch, 4, seed=1)
    found = bench.census(False)
    (bench.server.job.folder / "switch.json").unlink()
    try:
        least, most = expert_pair.loaded(found, expert_pair.geometry().more["num_experts"])
    except ValueError as error:
        return {"problem": str(error)}
    return {"calls": len(found), "least_used": least, "largest_share": most, "problem": ""}


def show(blocks: Sequence[Mapping[str, Any]], steps: Sequence[Steps], begun: Sequence[int | None]) -> dict[str, Any]:
    """Print the table and what its intervals are made of; all of it."""
    table, said = ratios(blocks, steps, begun), noise(blocks, steps, begun)
    servers.show(
        ("mode", "blocks", "steps", "step, us", *FIGURES),
        [
            [row["mode"], row["blocks"], row["steps"], f"{row['step_us']:.0f}"]
            + [f"{row[kind]:.4f} ({row[f'{kind}_low']:.4f} to {row[f'{kind}_high']:.4f})" for kind in FIGURES]
            for row in table
        ],
    )
    widths = {kind: max(row[f"{kind}_high"] - row[f"{kind}_low"] for row in table) for kind in FIGURES}
    print("widest interval, %:", {kind: round(100 * width, 2) for kind, width in widths.items()}, "wanted: 0.3")
    print(
        "spread of a block, %:", {name: round(100 * value, 2) for name, value in said.items() if name != "neighbours"}
    )
    print(f"correlation of neighbouring blocks: {said['neighbours']:.2f}")
    late = settling(blocks, steps, begun)
    print(
        "first five steps after a change, beside those with nothing armed, %:",
        {name: round(100 * v, 2) for name, v in late.items()},
    )
    return {"summary": table, "noise": said, "settling": late}


def show_each(paths: Sequence[Path], runs: Sequence[Run]) -> None:
    """Print what each server says by itself: whether they agree is not in the interval of all of them."""
    told = []
    for path, run in zip(paths, runs, strict=True):
        _, *armed = ratios(*run)
        figures = [f"{row['median']:.4f} ({row['median_low']:.4f} to {row['median_high']:.4f})" for row in armed]
        told.append([path.parent.name, sum(row["blocks"] for row in armed), *figures])
    servers.show(("server", "armed blocks", *NAMES[1:]), told)


def show_hooks(file: Path) -> bool:
    """Print what each hook takes of a step; False when nothing was timed."""
    rows = hook_times.read(file) if file.exists() else []
    told = [[armed, hook, f"{calls:.2f}", f"{us:.1f}"] for armed, hook, calls, us in rows]
    servers.show(("armed", "hook", "calls a step", "us a step"), told)
    return bool(rows)


def read(path: Path) -> Run:
    """A run's blocks, steps and batches' beginnings, from PATH.json and PATH.npz."""
    content = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    with np.load(path.with_name(path.name + ".npz")) as held:
        return content["blocks"], [held[str(index)] for index in range(len(content["blocks"]))], content["begun"]


def _count(ledger: Path) -> int:
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
