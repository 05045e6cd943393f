"""What traps cost a healthy server, told inside one decode run: what is armed changes every 50 steps.

    bash tools/on_gpu.sh exec python3 benchmarks/trap_blocks.py --shape 26b [--time-limit 560]

One server (`trap_toggle.py`'s), everything armed while its graphs are captured, so the device's share of the captured
checks is in every mode alike; RESULTS.md has it apart. Cycles of blocks: nothing, page-table traps, all traps, all and
the recorder, each once a cycle in random order. A step is the time between two decode batches of the whole batch; the
first steps after a change are left out. Per mode: the median step, its ratio to `nothing`, and a 95 % interval by
bootstrap over whole cycles, so that what drifts is in every mode of a resample. Writes $OUT/trap_blocks.json, with all
steps in $OUT/trap_blocks.npz.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import servers
import trap_toggle
from trap_overhead import SHAPES
from trap_toggle import MODES, Bench, wait_for

NAMES = ("none", "page-table", "all traps", "all + recorder")
LEFT_OUT = 3  # steps after a change: the queue was empty meanwhile
Steps = np.ndarray[Any, np.dtype[np.float64]]


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


def ratios(blocks: Sequence[Mapping[str, Any]], steps: Sequence[Steps], resamples: int = 4000) -> list[dict[str, Any]]:
    """A row a mode. Only whole cycles count; ValueError without one."""
    cycles: dict[int, dict[str, Steps]] = {}
    for block, found in zip(blocks, steps, strict=True):
        if len(found):
            cycles.setdefault(block["cycle"], {})[block["mode"]] = found
    whole = [cycle for cycle in cycles.values() if set(cycle) == set(NAMES)]
    if not whole:
        raise ValueError(f"wanted a cycle of {len(NAMES)} modes, found none in {len(blocks)} blocks")
    draws = np.random.default_rng(0).integers(0, len(whole), (resamples, len(whole)))

    def medians(name: str) -> Steps:
        return np.array([np.median(np.concatenate([whole[index][name] for index in draw])) for draw in draws])

    base_steps, base = np.concatenate([cycle["none"] for cycle in whole]), medians("none")
    table = []
    for name in NAMES:
        mine = np.concatenate([cycle[name] for cycle in whole])
        low, high = np.percentile(medians(name) / base, [2.5, 97.5])
        row = {"mode": name, "cycles": len(whole), "steps": len(mine), "step_us": float(np.median(mine))}
        row |= {"p10_us": float(np.percentile(mine, 10)), "p90_us": float(np.percentile(mine, 90))}
        row |= {"ratio": float(np.median(mine) / np.median(base_steps)), "low": float(low), "high": float(high)}
        table.append(row)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="26b", choices=sorted(SHAPES))
    parser.add_argument("--steps", type=int, default=50, help="decode steps a block")
    parser.add_argument("--cycles", type=int, default=85, help="at most; as many as the time limit allows")
    parser.add_argument("--prompt", type=int, default=1000)
    parser.add_argument("--new", type=int, default=3000, help="tokens a request, before the next batch is sent")
    parser.add_argument("--time-limit", type=float, default=540.0)
    parser.add_argument("--intermediate", type=int, default=3072)
    options = parser.parse_args()
    end = time.monotonic() + options.time_limit
    shape = replace(SHAPES[options.shape], prompt=options.prompt, new=options.new)
    servers.own_child()
    servers.clock_plugin(Path(tempfile.mkdtemp(prefix="g4-blocks-site-")))
    asked = {"steps": options.steps, "batch": shape.batch, "modes": {name: MODES[name] for name in NAMES}}
    server = trap_toggle.start(
        shape, 0, options.time_limit, options.intermediate, TRAPBENCH_BLOCKS=json.dumps(asked), TRAPBENCH_MODES=""
    )
    bench = Bench(shape, server, end - 15)
    if not wait_for(server, lambda: server.saw("ready"), end):
        print(f"trap_blocks: never ready: {server.why()}")
        return 1
    print(f"trap_blocks: ready, {end - time.monotonic():.0f} s left", flush=True)
    ledger = server.job.folder / "blocks.jsonl"
    batches = 0
    while time.monotonic() < end - 15 and server.is_alive() and _count(ledger) < options.cycles * len(NAMES):
        bench.serve(shape.batch, shape.new, seed=0)
        batches += 1
        print(f"trap_blocks: batch {batches}, {_count(ledger)} blocks, {end - time.monotonic():.0f} s left", flush=True)
    blocks = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    steps = steps_of(blocks, servers.read_clock(server.clock)[2], shape.batch)
    np.savez_compressed(servers.out() / "trap_blocks.npz", **{str(index): found for index, found in enumerate(steps)})
    blind = [b["mode"] for b in blocks if b["mode"] != "none" and not (b["traps"] and b["seen"] >= options.steps)]
    table = ratios(blocks, steps)
    content = {"about": __doc__, "options": vars(options), "machine": servers.machine(), "summary": table}
    content |= {"blocks": blocks, "blind": blind, "violations": len(servers.violations(server.text()))}
    servers.write_json("trap_blocks.json", content)
    columns = ("mode", "cycles", "steps", "step_us", "p10_us", "p90_us", "ratio", "low", "high")
    servers.show(columns, [[row[column] for column in columns] for row in table])
    armed = {name: [b["seconds"] for b in blocks if b["mode"] == name] for name in NAMES}
    print({name: round(float(np.median(seconds)), 3) for name, seconds in armed.items()}, "s a change")
    print(f"violations: {content['violations']}; blocks in which armed traps saw too few steps: {len(blind)}")
    servers.write_tails("trap_blocks-logs.txt.gz", [server], 60)
    servers.stop_all([server])
    return 1 if blind else 0


def _count(ledger: Path) -> int:
    return len(ledger.read_text().splitlines()) if ledger.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
