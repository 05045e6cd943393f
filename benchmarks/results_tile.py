"""The markdown of RESULTS.md from extend_tile.json: python3 benchmarks/results_tile.py FILE [...]"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extend_shapes import BORDERS, MORE, SIX, Shape

SHAPES = {shape.name: shape for shape in (*SIX, *MORE, *BORDERS)}


def markdown(content: dict[str, Any]) -> str:
    """Machine, the three tiles on each shape, and what a sweep found."""
    facts = content["machine"]
    about = ", ".join(f"{name}: {facts[name]}" for name in facts if name not in ("command", "compile"))
    parts = [f"{about}:\n\n    {facts['command']}", _compared(content["rows"])]
    if content.get("sweep"):
        parts.append(_swept(content["sweep"], content["rows"]))
    host = ", ".join(f"{name} {us:.1f}" for name, us in content["host_us"].items())
    return "\n\n".join([*parts, f"Host us a call, eager: {host}."])


def _compared(rows: list[dict[str, Any]]) -> str:
    head = (
        "shape|(128,64) us|0.5.13 us|patch us|tile|x (128,64)|fork's x|fork's us|x 0.5.13|spread|GB/s|TFLOP/s|err e-3"
    )
    lines = []
    for name in dict.fromkeys(row["shape"] for row in rows):
        shape = SHAPES[name]
        old, stock, ours = (row for row in rows if row["shape"] == name)
        theirs = (
            [f"{shape.reported[0] / shape.reported[1]:.2f}", f"{shape.reported[1]:.2f}"]
            if shape.reported
            else ["-", "-"]
        )
        times = [f"{row['us']:.2f}" for row in (old, stock, ours)]
        gains = [f"{other['us'] / ours['us']:.2f}" for other in (old, stock)]
        spread = f"{(max(ours['rounds']) / min(ours['rounds']) - 1) * 100:.1f} %" if ours["rounds"] else "-"
        error = f"{ours['error'] * 1e3:.2f}" if ours["right"] else f"WRONG {ours['problem']}"
        lines.append(
            [name, *times, tile(ours["launched"]), gains[0], *theirs, gains[1], spread, *_rates(shape, ours), error]
        )
    return _table(head.split("|"), lines)


def _rates(shape: Shape, row: dict[str, Any]) -> list[str]:
    return [f"{shape.bytes_touched / row['us'] / 1e3:.0f}", f"{shape.flops / row['us'] / 1e6:.0f}"]


def _swept(tried: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    head = ["shape", "tiles timed", "best", "second", "third", "the patch's of this run"]
    lines = []
    for name in dict.fromkeys(row["shape"] for row in tried):
        done = sorted((r for r in tried if r["shape"] == name and r["rounds"]), key=lambda r: float(r["us"]))
        best = [f"{tile(row['launched'])}: {row['us']:.2f}" for row in done[:3]]
        ours = next(row["launched"] for row in rows if (row["shape"], row["variant"]) == (name, "patch"))
        again = [row["us"] for row in done if row["launched"] == ours]
        far = f", +{(statistics.mean(again) / done[0]['us'] - 1) * 100:.0f} %" if again else ", not in the grid"
        lines.append([name, str(len(done)), *best, *["-"] * (3 - len(best)), tile(ours) + far])
    return _table(head, lines)


def tile(config: Sequence[int] | None) -> str:
    return "{},{} w{} s{}".format(*config) if config else "-"


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


if __name__ == "__main__":
    print("\n\n".join(markdown(json.loads(Path(path).read_text(encoding="utf-8"))) for path in sys.argv[1:]))
