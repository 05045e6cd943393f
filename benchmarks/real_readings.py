"""What a server of `real_models.py` said: its pools and weights, its requests' latencies, how full it was, steps."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import servers
from real_child import MARK

_POOLS = re.compile(r"full_layer_tokens=(\d+), swa_layer_tokens=(\d+)")
_WEIGHTS = re.compile(r"Load weight end\..*?mem usage=([\d.]+) GB")
_FRACTION = re.compile(r"'mem_fraction_static': ([\d.]+)")
_PREFILL = re.compile(r"Prefill batch.*?#new-token: (\d+), #cached-token: (\d+)")
_DECODE = re.compile(
    r"Decode batch.*?#running-req: (\d+),.*?full token usage: ([\d.]+),.*?swa token usage: ([\d.]+),"
    r".*?gen throughput \(token/s\): ([\d.]+), #queue-req: (\d+)"
)
Events = Sequence[Mapping[str, Any]]


def pools(text: str) -> tuple[int, int] | None:
    """(full, SWA) tokens as last said: they may be sized again after the graphs are captured."""
    found = _POOLS.findall(text)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def weights_gib(text: str) -> float | None:
    """What loading took, by the server's own figure, in GiB; it writes GB and divides by 2**30."""
    found = _WEIGHTS.findall(text)
    return float(found[-1]) if found else None


def fraction(text: str) -> float | None:
    """The static memory fraction as the server resolved it."""
    found = _FRACTION.findall(text)
    return float(found[0]) if found else None


def sums(events: Events) -> tuple[int, int]:
    """All-reduces that custom all-reduce took, and that NCCL took by the benchmark's choice, while graphs were
    captured."""
    rows = [row["sums"] for row in events if row["event"] == "switched" and "sums" in row]
    return (int(rows[-1][0]), int(rows[-1][1])) if rows else (0, 0)


def of_phase(text: str, name: str) -> str:
    """The log's lines of the phase of this name; "" if it was not reached."""
    _, mark, after = text.partition(f"{MARK} {name}\n")
    return after.partition(MARK)[0] if mark else ""


def latencies(events: Events, phase: str) -> dict[str, Any]:
    """Medians over the requests of a phase that came back whole. TPOT: per token after the first."""
    rows = [row for row in events if row["event"] == "request" and row["phase"] == phase]
    whole = [row for row in rows if row["whole"]]
    found: dict[str, Any] = {"requests": len(rows), "whole": len(whole)}
    cut = [row["left"] for row in events if row["event"] == "cut" and row["name"] == phase]
    found |= {"cut": cut[0] if cut else 0}
    found |= {"failed": [row["error"] for row in events if row["event"] == "failed" and row["name"] == phase][:3]}
    if not whole:
        return found
    found["ttft_ms"] = 1000 * statistics.median(row["first"] - row["sent"] for row in whole)
    found["prompt_tokens"] = sum(row["prompt"] for row in rows)
    longer = [row for row in whole if row["tokens"] > 1]
    if longer:
        found["tpot_ms"] = 1000 * statistics.median(
            (row["last"] - row["first"]) / (row["tokens"] - 1) for row in longer
        )
    found["seconds"] = max(row["last"] for row in rows) - min(row["sent"] for row in rows)
    found["output_rate"] = sum(row["tokens"] for row in rows) / found["seconds"]
    return found


def fullness(text: str) -> dict[str, Any]:
    """Of a phase's log: how many ran, how full the pools were, what was computed twice. Decode lines come every so many
    steps, so a median over them weighs steps, not seconds."""
    decode = [tuple(map(float, row)) for row in _DECODE.findall(text)]
    prefill = [tuple(map(int, row)) for row in _PREFILL.findall(text)]
    found: dict[str, Any] = {"decode_lines": len(decode), "prefill_batches": len(prefill)}
    found |= {"computed_tokens": sum(row[0] for row in prefill), "cached_tokens": sum(row[1] for row in prefill)}
    found["retracted"] = servers.retractions(text)
    if decode:
        running, full, swa, _, queued = zip(*decode, strict=True)
        found |= {"running_median": statistics.median(running), "running_most": max(running)}
        found |= {"full_use_most": max(full), "swa_use_most": max(swa)}
        found |= {"swa_use_median": statistics.median(swa), "queued_median": statistics.median(queued)}
    return found


def census(events: Events) -> dict[str, Any]:
    """How evenly the routers spread the warm-up's tokens: layers' calls, fewest experts used, largest share of one."""
    rows = [row for event in events if event["event"] == "switched" for row in event.get("experts", ())]
    if not rows:
        return {"calls": 0}
    return {"calls": len(rows), "fewest": min(row[0] for row in rows), "largest_share": max(row[1] for row in rows)}


def prefills(events: Events, phase: str) -> list[dict[str, Any]]:
    """Median seconds to the first token of one prompt alone, by tile and prompt length, and how many."""
    cells: dict[tuple[bool, int], list[float]] = {}
    for row in events:
        if row["event"] == "request" and row["phase"] == phase and row["whole"]:
            cells.setdefault((bool(row["tile"]), row["prompt"]), []).append(row["first"] - row["sent"])
    return [
        {"tile": tile, "prompt": prompt, "times": len(found), "ms": 1000 * statistics.median(found)}
        for (tile, prompt), found in sorted(cells.items())
    ]


def tiles(events: Events) -> int:
    """Launches that were given the patch's tile."""
    return max((row.get("tiles", 0) for row in events if row["event"] == "switched"), default=0)


def between(events: Events, phase: str, rows: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The clock's rows (ns, is decode, batch) of a phase."""
    at = {row["event"]: row["ns"] for row in events if row.get("name") == phase and "ns" in row}
    if "phase" not in at:
        return []
    return [row for row in rows if at["phase"] <= row[0] <= at.get("phase over", float("inf"))]


def steps_by_batch(rows: Sequence[tuple[int, int, int]], least: int = 10) -> dict[int, dict[str, Any]]:
    """Batch -> median decode step in us between two steps in a row of that batch, and how many; batches with few are
    left out."""
    gaps: dict[int, list[float]] = {}
    for (before, mode, batch), (after, next_mode, next_batch) in itertools.pairwise(rows):
        if mode == next_mode == 1 and batch == next_batch:
            gaps.setdefault(batch, []).append((after - before) / 1000)
    return {
        batch: {"steps": len(found), "us": statistics.median(found)}
        for batch, found in sorted(gaps.items())
        if len(found) >= least
    }


def jump(steps: Mapping[int, Mapping[str, Any]], others: frozenset[int]) -> dict[str, Any] | None:
    """us a step that `others` add, batch sizes whose graphs hold something else: a line through the batches' medians,
    and a jump at those. None with fewer than three of either kind. us: without it; error_us: its standard error."""
    import numpy as np

    batches = sorted(steps)
    odd = [batch for batch in batches if batch in others]
    if min(len(odd), len(batches) - len(odd)) < 3:
        return None
    middle = sum(batches) / len(batches)
    terms = np.array([[1.0, batch - middle, float(batch in others)] for batch in batches])
    values = np.array([steps[batch]["us"] for batch in batches])
    found, *_ = np.linalg.lstsq(terms, values, rcond=None)
    spread = np.sum((values - terms @ found) ** 2) / (len(batches) - 3)
    error = float(np.sqrt(spread * np.linalg.inv(terms.T @ terms)[2, 2]))
    return {"us": float(found[0]), "others_us": float(found[0] + found[2]), "added_us": float(found[2])} | {
        "error_us": error,
        "batches": batches,
    }
