"""What one launch of the device check costs, replayed inside a CUDA graph, and whether it is right there.

Healthy tables (the cost that a server pays): bound alone, with the value check, with containment, and with each thing
that is judged in graphs beside the table and all of it; then a write of K/V. Then a faulty table, length, row, mapping
and write, replayed: each verdict must be readable on the host without a copy. Prints a table and JSON into $OUT.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from g4diag.stack.kernels.claims import CLAIMS, LENGTHS, REMAPPED, ROWS, SLOTS, SLOTS_REMAPPED, TABLE, UNMAPPED
from g4diag.stack.kernels.kv_slots_check import check_kv_slots
from g4diag.stack.kernels.page_table_check import InGraph, check_page_table
from g4diag.stack.kernels.verdict import VerdictBox

LAUNCHES, REPLAYS = 50, 40
_VALUES = frozenset({"values"})
JUDGED = {
    "bound": frozenset[str](),
    "values": _VALUES,
    "contain": _VALUES | {"contain"},
    "+ window": _VALUES | {"window"},
    "+ handed out": _VALUES | {"handed out"},
    "+ lengths and rows": _VALUES | {"lengths"},
    "all in graphs": _VALUES | {"window", "handed out", "lengths"},
}
# Tables of (rows, columns) of pages of 64, then flat slots of (rows, keys), as triton and flashinfer are handed them.
# Of a layer with a window a server hands on the window's slots alone, so rows of 512 and 1024; the longer ones are full
# attention's, and say what the claims about a window would cost there.
SHAPES = (
    *((8, 64, 64), (64, 143, 64), (64, 512, 64), (256, 512, 64)),
    *((32, 512, 1), (64, 512, 1), (64, 1024, 1), (8, 4096, 1), (32, 4096, 1), (64, 9152, 1)),
)


def world(rows: int, columns: int, page: int) -> dict[str, torch.Tensor]:
    """A request table, a mapping and lengths on the device; tables full and SWA."""
    generator = torch.Generator().manual_seed(rows)
    pages = rows * columns + 1
    full = (torch.randperm(pages - 1, generator=generator)[: rows * columns] + 1).reshape(rows, columns)
    swa_of = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randperm(pages - 1, generator=generator) + 1])
    offsets = torch.arange(page)
    request = torch.zeros((rows + 1, columns * page), dtype=torch.int32)
    request[1:] = (full[:, :, None] * page + offsets).reshape(rows, -1).int()
    mapping = torch.cat([(swa_of[:, None] * page + offsets).reshape(-1), torch.tensor([-1])])
    last = request[1:, -4 if page > 1 else -1].long()
    host = {
        "full": full.int(),
        "swa": swa_of[full].int(),
        "request": request,
        "mapping": mapping,
        "seq": torch.full((rows,), columns * page - (3 if page > 1 else 0), dtype=torch.int32),
        "rows": torch.arange(1, rows + 1),
        "step": torch.tensor([5]),
        "handed": mapping.clone(),
        "keys": torch.full((rows,), columns * page - (3 if page > 1 else 0)),
        "told_rows": torch.arange(1, rows + 1),
        "slots": last,
        "swa_slots": mapping[last],
        "told_slots": last.clone(),
        "page": torch.tensor(page),
    }
    if page == 1:
        host |= {name: host[name].long().reshape(-1) for name in ("full", "swa")}
        host["indptr"] = torch.arange(0, rows * columns + 1, columns, dtype=torch.int32)
    return {name: tensor if name == "page" else tensor.cuda() for name, tensor in host.items()}


def launch(w: dict[str, torch.Tensor], table: str, box: VerdictBox, window: int, judged: frozenset[str]) -> None:
    """One check of one table. judged: of JUDGED."""
    values, mapped = "values" in judged, "values" in judged and window >= 0
    check_page_table(
        w[table],
        w["seq"],
        w["rows"],
        box,
        w["step"],
        site=3,
        bound=int(w["full"].numel()) + 1,
        page_size=int(w["page"]),
        window=window,
        queries=1,
        request_table=w["request"] if values else None,
        mapping=w["mapping"] if mapped else None,
        contain="contain" in judged,
        indptr_B1=w.get("indptr"),
        in_graph=InGraph(
            in_window=mapped and "window" in judged,
            handed_out=w["handed"] if mapped and "handed out" in judged else None,
            keys_B=w["keys"] if "lengths" in judged else None,
            told_rows_B=w["told_rows"] if "lengths" in judged else None,
        ),
    )


def write(w: dict[str, torch.Tensor], box: VerdictBox, swa: bool, handed: bool) -> None:
    """One check of a write of a batch's last tokens."""
    check_kv_slots(
        w["swa_slots" if swa else "slots"],
        box,
        w["step"],
        site=4,
        bound=int(w["full"].numel() + 1) * int(w["page"]),
        own_N=w["slots"],
        told_N=w["told_slots"],
        mapping=w["mapping"] if swa else None,
        handed_out=w["handed"] if swa and handed else None,
    )


def replayed(run: Callable[[], None]) -> float:
    """Median microseconds of one launch."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            run()
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / LAUNCHES)
    return statistics.median(times)


def costs(w: dict[str, torch.Tensor], shape: tuple[int, int, int]) -> tuple[list[dict[str, Any]], int]:
    """(a row a thing that is judged, how many verdicts on healthy state)."""
    rows, wrong = [], 0
    for window in (-1, 512):
        table = "full" if window < 0 else "swa"
        for name, judged in JUDGED.items():
            box = VerdictBox()
            micro = replayed(partial(launch, w, table, box, window, judged))
            wrong += len(list(box.found()))
            rows.append({"shape": shape, "window": window, "judged": name, "us": micro})
    for swa, handed in ((False, False), (True, False), (True, True)):
        box = VerdictBox()
        micro = replayed(partial(write, w, box, swa, handed))
        wrong += len(list(box.found()))
        name = f"write to {'SWA' if swa else 'full'} slots" + ", handed out" * handed
        rows.append({"shape": shape, "window": 512 if swa else -1, "judged": name, "us": micro})
    return rows, wrong


def faults(w: dict[str, torch.Tensor], columns: int) -> int:
    """How many of the claims were not found broken where they are, each by itself, in replays."""
    page, everything = int(w["page"]), JUDGED["all in graphs"]
    last = (1, columns - 1)
    full_slot = int(w["request"][2, (columns - 1) * page])
    swa_table, full_table = (w[name].view(len(w["rows"]), columns) for name in ("swa", "full"))
    missed = 0
    for claim in CLAIMS:
        kept = {name: tensor.clone() for name, tensor in w.items()}
        if claim == TABLE:
            full_table[last] = 1 << 24
        elif claim == UNMAPPED:
            w["mapping"][full_slot : full_slot + page], swa_table[last] = 0, 0
        elif claim == REMAPPED:
            w["handed"][full_slot : full_slot + page] += page
        elif claim == LENGTHS:
            w["keys"][1] += 1
        elif claim == ROWS:
            w["told_rows"][1] += 1
        elif claim == SLOTS:
            w["swa_slots"][1] = -1
        elif claim == SLOTS_REMAPPED:
            w["handed"][w["slots"][1]] += 1
        w["step"].fill_(41)
        box = VerdictBox()
        if claim in (SLOTS, SLOTS_REMAPPED):
            replayed(partial(write, w, box, True, True))
            place = (-1, 1)
        else:
            table, window = ("full", -1) if claim == TABLE else ("swa", 512)
            replayed(partial(launch, w, table, box, window, everything))
            place = (1, -1 if claim in (LENGTHS, ROWS) else columns - 1)
        found = box.read(claim)
        others = [other for other, _ in box.found() if other != claim]
        if found is None or (found.row, found.column, found.step) != (*place, 41) or others:
            print(f"claim {claim}: wanted row, column {place}, found {found}, of others {others}", file=sys.stderr)
            missed += 1
        for name, tensor in kept.items():
            w[name].copy_(tensor)
    return missed


def main() -> int:
    """0 right, 1 wrong, 3 no GPU."""
    if not torch.cuda.is_available():
        print("page_table_check: wanted a CUDA device, found none", file=sys.stderr)
        return 3
    rows, wrong = [], 0
    for shape in SHAPES:
        w = world(*shape)
        told, alarms = costs(w, shape)
        rows += told
        wrong += alarms + faults(w, shape[1])
    names = list(dict.fromkeys(row["judged"] for row in rows))
    shown = Table(title=f"device check, {torch.cuda.get_device_name()}, us a launch in a graph of {LAUNCHES}")
    for name in ("rows x columns x page", "window", *names):
        shown.add_column(name)
    for shape, window in dict.fromkeys((row["shape"], row["window"]) for row in rows):
        of = {row["judged"]: row["us"] for row in rows if (row["shape"], row["window"]) == (shape, window)}
        shown.add_row(str(shape), str(window), *(f"{of[name]:.2f}" if name in of else "" for name in names))
    Console(width=160).print(shown)
    print("all verdicts right" if not wrong else f"{wrong} WRONG verdicts")
    if out := os.environ.get("OUT"):
        (Path(out) / "page_table_check.json").write_text(json.dumps(rows))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
