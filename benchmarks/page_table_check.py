"""What one launch of the device check costs, replayed inside a CUDA graph, and whether it is right there.

Healthy tables (the cost that a server pays), bound alone and with the value check, with and without containment; then
a faulty table, replayed: the verdict must be readable on the host without a copy. Prints a table and JSON into $OUT.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from g4diag.stack.kernels.page_table_check import VerdictBox, check_page_table

LAUNCHES, REPLAYS = 50, 60
# Tables of (rows, columns) of pages of 64, then flat slots of (rows, keys), as triton and flashinfer are handed them.
SHAPES = ((8, 64, 64), (64, 143, 64), (64, 512, 64), (256, 512, 64), (8, 4096, 1), (32, 4096, 1), (64, 9152, 1))


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
    host = {
        "full": full.int(),
        "swa": swa_of[full].int(),
        "request": request,
        "mapping": mapping,
        "seq": torch.full((rows,), columns * page - (3 if page > 1 else 0), dtype=torch.int32),
        "rows": torch.arange(1, rows + 1),
        "step": torch.tensor([5]),
        "page": torch.tensor(page),
    }
    if page == 1:
        host |= {name: host[name].long().reshape(-1) for name in ("full", "swa")}
        host["indptr"] = torch.arange(0, rows * columns + 1, columns, dtype=torch.int32)
    return {name: tensor if name == "page" else tensor.cuda() for name, tensor in host.items()}


def launch(w: dict[str, torch.Tensor], table: str, box: VerdictBox, window: int, values: bool, contain: bool) -> None:
    """One check of one table."""
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
        mapping=w["mapping"] if values and window >= 0 else None,
        contain=contain,
        indptr_B1=w.get("indptr"),
    )


def replayed(w: dict[str, torch.Tensor], table: str, box: VerdictBox, *how: bool | int) -> float:
    """Median microseconds of one launch."""
    launch(w, table, box, *how)  # type: ignore[arg-type]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            launch(w, table, box, *how)  # type: ignore[arg-type]
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / LAUNCHES)
    return statistics.median(times)


def main() -> int:
    """0 right, 1 wrong, 3 no GPU."""
    if not torch.cuda.is_available():
        print("page_table_check: wanted a CUDA device, found none", file=sys.stderr)
        return 3
    rows, wrong = [], 0
    for shape in SHAPES:
        w = world(*shape)
        for window in (-1, 512):
            table = "full" if window < 0 else "swa"
            for values, contain in ((False, False), (True, False), (True, True)):
                box = VerdictBox()
                micro = replayed(w, table, box, window, values, contain)
                wrong += box.read() is not None
                rows.append({"table": shape, "window": window, "values": values, "contain": contain, "us": micro})
        box = VerdictBox()
        w["full"].view(shape[0], shape[1])[1, -1] = 1 << 24
        w["step"].fill_(41)
        replayed(w, "full", box, -1, True, False)
        found = box.read()
        wrong += found is None or (found.row, found.column, found.step) != (1, shape[1] - 1, 41)
    shown = Table(title=f"device check, {torch.cuda.get_device_name()}, us a launch in a graph of {LAUNCHES}")
    for name in rows[0]:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=100).print(shown)
    print("all verdicts right" if not wrong else f"{wrong} WRONG verdicts")
    if out := os.environ.get("OUT"):
        (Path(out) / "page_table_check.json").write_text(json.dumps(rows))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
