"""What traps cost a healthy server, told inside one decode run: what is armed changes every 50 steps.

    bash tools/on_gpu.sh exec python3 benchmarks/trap_blocks.py --shape 26b [--time-limit 560]

One server (`trap_toggle.py`'s), everything armed while its graphs are captured, so the device's share of the captured
checks is in every mode alike; RESULTS.md has it apart. Cycles of blocks: nothing, page-table traps, all traps, all and
the recorder, each once a cycle in random order. A step is the time between two decode batches of the whole batch; the
first steps after a change are left out. A step takes longer the more its requests have decoded, by more than any trap
costs: so the logarithm of a block's median is fitted with a level a batch, a cubic of the block's place in it, and what
each mode adds, which is its ratio; the same for the block's mean, which has the rare long steps too. 95 % intervals by
bootstrap over whole cycles. Writes $OUT/trap_blocks.json, with all steps in $OUT/trap_blocks.npz.
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


def ratios(
    blocks: Sequence[Mapping[str, Any]], steps: Sequence[Steps], begun: Sequence[int | None], resamples: int = 1000
) -> list[dict[str, Any]]:
    """A row a mode. begun: see `places`. ValueError unless every mode has blocks in two cycles."""
    used = [index for index, found in enumerate(steps) if len(found) and begun[index] is not None]
    modes, cycles = ([blocks[index][key] for index in used] for key in ("mode", "cycle"))
    if any(len({c for c, m in zip(cycles, modes, strict=True) if m == name}) < 2 for name in NAMES):
        raise ValueError(f"wanted {', '.join(NAMES)} in two cycles each, found {len(used)} whole blocks")
    starts = np.array([begun[index] for index in used])
    place = np.array([blocks[index]["first"] for index in used], dtype=float) - starts
    place /= max(1.0, place.max())
    columns = [starts == start for start in np.unique(starts)] + [place, place**2, place**3]
    terms = np.array([*columns, *(np.array(modes) == name for name in NAMES[1:])], dtype=float).T
    numbers, which = np.unique(cycles, return_inverse=True)
    draws = np.random.default_rng(0).integers(0, len(numbers), (resamples, len(numbers)))
    weights = [np.bincount(draw, minlength=len(numbers))[which] for draw in draws]
    fitted = {}
    for name, of_block in (("median", np.median), ("mean", np.mean)):
        values = np.log([of_block(steps[index]) for index in used])
        fitted[name] = [_added(terms, values, weight) for weight in (np.ones(len(used)), *weights)]
    table = []
    for number, name in enumerate(NAMES):
        mine = np.concatenate([steps[index] for index, mode in zip(used, modes, strict=True) if mode == name])
        row = {"mode": name, "blocks": modes.count(name), "steps": len(mine), "step_us": float(np.median(mine))}
        for kind, found in fitted.items():
            of_mode = [1.0] * len(found) if number == 0 else [float(np.exp(added[number - 1])) for added in found]
            low, high = np.percentile(of_mode[1:], [2.5, 97.5])
            row |= {kind: of_mode[0], f"{kind}_low": float(low), f"{kind}_high": float(high)}
        table.append(row)
    return table


def _added(terms: Steps, values: Steps, weights: Steps) -> Steps:
    """What each mode but the first adds, by weighted least squares."""
    root = np.sqrt(weights)
    found = np.linalg.lstsq(terms * root[:, None], values * root, rcond=None)[0]
    return np.asarray(found[1 - len(NAMES) :])


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
    rows = servers.read_clock(server.clock)[2]
    steps = steps_of(blocks, rows, shape.batch)
    np.savez_compressed(servers.out() / "trap_blocks.npz", **{str(index): found for index, found in enumerate(steps)})
    blind = [b["mode"] for b in blocks if b["mode"] != "none" and not (b["traps"] and b["seen"] >= options.steps)]
    table = ratios(blocks, steps, places(blocks, rows, shape.batch))
    content = {"about": __doc__, "options": vars(options), "machine": servers.machine(), "summary": table}
    content |= {"blocks": blocks, "blind": blind, "violations": len(servers.violations(server.text()))}
    servers.write_json("trap_blocks.json", content)
    columns = ("mode", "blocks", "steps", "step_us", "median", "median_low", "median_high")
    columns += ("mean", "mean_low", "mean_high")
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
