"""One table of `real_models.py`'s results beside the fork's (pyc96/sglang, its pull requests; B200 unless said)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import servers

Servers = Mapping[str, Mapping[str, Any]]
NOT_RUN = ("the tile's verify: these servers have no draft", "on two GPUs: the tile and the router")


@dataclass(frozen=True)
class Row:
    """A figure without and with something. theirs: the fork's two, None where it has none. note: what else has to
    be known."""

    what: str
    ours: tuple[float, float]
    theirs: tuple[float, float] | None = None
    digits: int = 0
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        first, second = (f"{value:,.{self.digits}f}" for value in self.ours)
        ratio = f"{self.ours[1] / self.ours[0]:.3f}" if self.ours[0] else "-"
        if self.theirs is None:
            return (self.what, f"{first} -> {second}", "-", ratio, "-", self.note)
        fork = " -> ".join(f"{value:,.{self.digits}f}" for value in self.theirs)
        same = (self.ours[1] > self.ours[0]) == (self.theirs[1] > self.theirs[0]) and self.ours[0] != self.ours[1]
        order = "same order" if same else "ANOTHER ORDER"
        return (
            self.what,
            f"{first} -> {second}",
            fork,
            f"{ratio} / {self.theirs[1] / self.theirs[0]:.3f}",
            order,
            self.note,
        )


def rows(found: Servers) -> Iterator[Row]:
    """What can be said of these servers."""
    for model, fork_full, fork_swa, timed in (
        ("26b", (593_956, 2_138_243), (475_164, 320_736), True),
        ("31b", (132_992, 478_720), (106_368, 71_808), False),
    ):
        old, new = found.get(f"{model}-0.8"), found.get(f"{model}-0.15")
        if not (old and new):
            continue
        if old["pools"] and new["pools"]:
            yield Row(f"{model}: full tokens, ratio 0.8 -> 0.15", (old["pools"][0], new["pools"][0]), fork_full)
            yield Row(f"{model}: SWA tokens", (old["pools"][1], new["pools"][1]), fork_swa)
        yield from _loaded(model, old, new, timed)
    yield from _toggled(found)
    yield from _text_only(found)


def _text_only(found: Servers) -> Iterator[Row]:
    """Two GPUs: as released, and with mm-disabled."""
    old, new = found.get("31b-released"), found.get("31b-mm-disabled")
    if not (old and new and old["pools"] and new["pools"] and old["fraction"] and new["fraction"]):
        return
    what = "31b on two GPUs, as released -> mm-disabled"
    yield Row(f"{what}: static memory fraction", (old["fraction"], new["fraction"]), (0.712, 0.778), 3)
    yield Row(f"{what}: weights a GPU, GiB", (old["weights_gib"], new["weights_gib"]), None, 2)
    yield Row(f"{what}: full tokens", (old["pools"][0], new["pools"][0]), (1000.0, 1216.0), 0, "the fork: +21.6 %")
    # Not tokens/s: the server that starts first may compile for the other, within its load.
    steps = [{int(batch): row for batch, row in server["decode_steps"].items()} for server in (old, new)]
    if both := sorted(steps[0].keys() & steps[1].keys()):
        first, second = (found[both[-1]] for found in steps)
        note = f"medians of {first['steps']} and {second['steps']} steps; two servers, one after the other"
        pair = first["us"] / 1000, second["us"] / 1000
        yield Row(f"{what}: decode step of batch {both[-1]}, ms", pair, None, 3, note)


def _loaded(model: str, old: Mapping[str, Any], new: Mapping[str, Any], timed: bool) -> Iterator[Row]:
    pair = [old["load"], new["load"]]
    if not all(row.get("whole") for row in pair):
        return
    left = [row["cut"] for row in pair]
    note = f"cut by its time: {left[0]} and {left[1]} requests left" if any(left) else ""
    for name, key, theirs in (
        ("median TTFT, ms", "ttft_ms", (10_459.0, 8763.0)),
        ("median TPOT, ms", "tpot_ms", (44.6, 37.9)),
        ("output tokens/s", "output_rate", None),
    ):
        if all(key in row for row in pair):
            yield Row(f"{model}: {name}", (pair[0][key], pair[1][key]), theirs if timed else None, 1, note)
    full = old["fullness"], new["fullness"]
    twice = [row["computed_tokens"] - load["prompt_tokens"] for row, load in zip(full, pair, strict=True)]
    if not any(left):
        yield Row(f"{model}: prompt tokens computed again", (max(0, twice[0]), max(0, twice[1])))
    yield Row(f"{model}: requests retracted", (full[0]["retracted"], full[1]["retracted"]), None, 0, note)
    for name, key, digits in (
        ("requests that ran at once, most", "running_most", 0),
        ("median", "running_median", 0),
        ("SWA use, most", "swa_use_most", 2),
        ("full use, most", "full_use_most", 2),
    ):
        if all(key in row for row in full):
            yield Row(f"{model}: {name}", (full[0][key], full[1][key]), None, digits)


def _toggled(found: Servers) -> Iterator[Row]:
    for server in found.values():
        cells = {(cell["tile"], cell["prompt"]): cell for cell in server.get("prefill", ())}
        longest = max((prompt for _, prompt in cells), default=0)
        for prompt in (longest, longest - 1):
            if (False, prompt) in cells and (True, prompt) in cells:
                pair = cells[False, prompt], cells[True, prompt]
                router = "fused router" if prompt == longest else "chain router"
                note = f"medians of {pair[0]['times']} and {pair[1]['times']}; no figure of a server's from the fork"
                what = f"{server['model']}: prefill of {prompt} alone, ms, tile off -> on, {router}"
                yield Row(what, (pair[0]["ms"], pair[1]["ms"]), None, 2, note)
        if router := server.get("router"):
            note = (
                f"added {router['added_us']:.0f} us, standard error {router['error_us']:.0f}; decode GPU time, the fork"
            )
            what = f"{server['model']}: decode step near batch 70, ms, chain -> fused router"
            yield Row(what, (router["others_us"] / 1000, router["us"] / 1000), None, 3, note + ": 5.8 -> 1.1 %")
        if summed := server.get("all_reduce"):
            note = f"{summed['added_us']:.0f} us, standard error {summed['error_us']:.0f}; the fork: output +5.0 %"
            what = f"{server['model']}: decode step near batch 70, ms, NCCL's all-reduce -> custom"
            yield Row(what, (summed["others_us"] / 1000, summed["us"] / 1000), None, 3, note)


def show(contents: Sequence[Mapping[str, Any]]) -> int:
    """Print it; 0 if there was anything to print, else 1."""
    found = {name: row for content in contents for name, row in content["servers"].items()}
    table = list(rows(found))
    for name, server in found.items():
        experts = server["experts"]
        said = f"ready after {server['ready_seconds']} s, over after {server['seconds']} s"
        said += f", weights {server['weights_gib']} GiB, output {server['load'].get('output_rate', 0):.0f} tokens/s"
        if experts["calls"]:
            said += (
                f"; fewest experts used by a layer {experts['fewest']}, largest share {experts['largest_share']:.3f}"
            )
        print(f"{name}: {said}{'; ' + server['problem'] if server['problem'] else ''}")
    servers.show(("what", "ours", "the fork's", "ratio, ours / theirs", "", ""), [row.cells() for row in table])
    for line in NOT_RUN:
        print(f"not run: {line}")
    return 0 if table else 1
