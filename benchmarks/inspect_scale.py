"""What `g4diag inspect` costs at the size of a cluster, and whether its answer is still right.

Three cases, each written to a temporary folder and read by a fresh process: `ranks`, eight nodes of eight ranks, each
with a live dump, a full ring and a log, of which one rank is bad; `pool`, a dump of a pool of 1 M tokens in pages of
one; `rows`, a dump whose table has 4096 rows. The ranks' files are made of dumps/h100-eager-warn.pt and
dumps/h100-surfaced-elsewhere.log: a healthy rank has that read with the right table. Nodes are containers: the same
process ids come back on each, and their monotonic clocks began at different times. Goals: 10 s of wall time and 1 GiB,
children included, for each case. Exit 0; 1 where the answer is wrong; 3 when it cannot run. A missed goal is printed,
not an error.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from inspect_speed import G4DIAG, CannotRun, Cost, measured
from rich.console import Console
from rich.table import Table

GOAL_SECONDS, GOAL_MIB = 10.0, 1024.0
RANKS, A_NODE, RECORDS, LOG_BYTES = 64, 8, 16_368, 1 << 20
SAMPLES = Path(__file__).resolve().parents[1] / "dumps"
_TIME = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]")


@dataclass(frozen=True)
class Sizes:
    """ranks: in all. a_node: of these. records: of a ring. log: bytes of a rank's log, or a little more. bad: the rank
    with the wrong table."""

    ranks: int = RANKS
    a_node: int = A_NODE
    records: int = RECORDS
    log: int = LOG_BYTES
    bad: int = 37


def make_ranks(folder: Path, sizes: Sizes = Sizes()) -> None:
    """node0/ .. , each with the files of its ranks: `live-*.pt`, `ring-*.g4ring`, and `server-rankN.log`."""
    from g4diag.dump.reader import read_dump

    bad = read_dump(SAMPLES / "h100-eager-warn.pt")
    log = (SAMPLES / "h100-surfaced-elsewhere.log").read_text().splitlines()
    for rank in range(sizes.ranks):
        number, place = divmod(rank, sizes.a_node)
        node, pid = folder / f"node{number}", 1003 + place
        node.mkdir(exist_ok=True)
        is_bad = rank == sizes.bad
        up = (number * 5 % 8) << 40  # ns that this node has been up for longer than the last one
        clock = mock.patch("time.monotonic_ns", functools.partial(_later, up, time.monotonic_ns))
        with mock.patch("os.getpid", return_value=pid), clock:
            records = _write_ring(node / f"ring-{rank}-pid{pid}-{rank:08x}.g4ring", rank, sizes.records, is_bad)
            _write_dump(node / f"live-{pid}-{rank:08x}.pt", bad if is_bad else healthy(bad), pid, records)
        (node / f"server-{pid}.log").write_text("".join(_log(log, rank, sizes.log, is_bad)))


def _later(up: int, clock: Callable[[], int]) -> int:
    return clock() + up


def healthy(bad: Any) -> Any:
    """The same dump with the table that its layer should have been handed, and nothing on record."""
    from g4diag.model import IndexSpace

    (read,) = bad.reads
    table_BP = read.mapping.swa_pages(read.full_page_table_BP).astype(read.page_table_BP.dtype)
    read = replace(read, page_table_BP=table_BP, table_space=IndexSpace.SWA_PAGE)
    return replace(bad, reads=(read,), violations=(), manifest=bad.manifest | {"faults": []})


def _write_ring(path: Path, rank: int, count: int, is_bad: bool) -> tuple[Any, ...]:
    """A ring of a process that ran long before its last step. Its last records."""
    from g4diag.dump.ring import HEADER_BYTES, RECORD_BYTES, RingWriter

    ranks = f"tp_rank={rank} pp_rank=0"
    writer = RingWriter(path, {"process": f"scheduler_{rank}"}, HEADER_BYTES + count * RECORD_BYTES)
    writer.start(ranks)
    for step in range(1, count - 1):
        writer.step("DECODE", (step, 8, 8, 32_000 + 8 * step, 0, 200_000, 167_744, 29_952, 1664, *range(6)), ["a", "b"])
    if is_bad:
        writer.mark("violation", "page_table_stays_in_pool error seen=1 draft draft_decode layer=4 row=7", count - 2)
    records = writer.tail()
    writer.close()
    return records


def _write_dump(path: Path, incident: Any, pid: int, records: tuple[Any, ...]) -> None:
    from g4diag.dump.writer import write_dump

    clock = {"pid": pid, "wall_ns": time.time_ns(), "mono_ns": time.monotonic_ns()}
    write_dump(replace(incident, context=incident.context | clock, ring=records), path)


def _log(lines: list[str], rank: int, size: int, is_bad: bool) -> Iterator[str]:
    """Decode lines until it is large enough; the bad rank's ends as that of the H100 did."""
    end = next(number for number, line in enumerate(lines) if "hit an exception" in line)
    said = [_TIME.sub(lambda found: f"{found[0][:-1]} TP{rank}]", line) + "\n" for line in lines]
    yield from said[:2]
    written, ordinary = 0, said[2:end]
    while written < size:
        yield from ordinary
        written += sum(map(len, ordinary))
    yield from said[end:] if is_bad else ()


def make_pool(path: Path) -> None:
    """64 requests of 8192 tokens in a pool of 1 M tokens; pages of one token, half of the pool's mapped."""
    _one_read(path, rows=64, columns=8192, page=1, pages=1_000_000, longest=8192)


def make_rows(path: Path) -> None:
    """4096 requests of up to 128 pages of 64 in a table of 1024 columns; the rest of it is stale."""
    _one_read(path, rows=4096, columns=1024, page=64, pages=1 << 15, longest=128)


def _one_read(path: Path, rows: int, columns: int, page: int, pages: int, longest: int) -> None:
    """A sliding layer that is handed full pages. Requests share pages, as those with one prefix do. longest: pages."""
    import numpy as np

    from g4diag.dump.writer import write_dump
    from g4diag.model import AttentionRead, Incident, IndexMapping, IndexSpace, LayerKind, PoolView

    rng = np.random.default_rng(0)
    chosen = np.arange(1, pages)[::2]
    swa_of_page = np.zeros(pages, np.int64)
    swa_of_page[chosen] = rng.permutation(len(chosen)) + 1
    swa_page_M = np.repeat(swa_of_page, page)
    mapping = IndexMapping(np.where(swa_page_M > 0, swa_page_M * page + np.tile(np.arange(page), pages), 0), page)
    full_table_BP = rng.choice(chosen, (rows, columns))
    swa = PoolView("swa", IndexSpace.SWA_PAGE, page, len(chosen) + 1, np.arange(1, 100))
    full = PoolView("full", IndexSpace.FULL_PAGE, page, pages, np.arange(2, pages, 2))
    read = AttentionRead(
        *(7, "draft", "draft_decode", "graph", "TRTLLMHAAttnBackend", 4, LayerKind.SWA, -1),
        pool=swa,
        table_space=IndexSpace.FULL_PAGE,
        page_table_BP=full_table_BP.astype(np.int32),
        seq_lens_B=rng.integers(1, longest * page + 1, rows).astype(np.int32),
        rids=tuple(f"r{row}" for row in range(rows)),
        full_page_table_BP=full_table_BP.astype(np.int64),
        mapping=mapping,
    )
    write_dump(Incident("g4diag", reads=(read,), pools=(full, swa), mapping=mapping), path, max_bytes=256 << 20)


def ranks_named(said: dict[str, Any], sizes: Sizes = Sizes()) -> str:
    """What is wrong with the answer, "" where the bad rank leads and no other dump is called wrong. said: a report as
    JSON."""
    parts = [
        finding["data"] for finding in said["findings"] if finding["subject"] == "parts" and "leads" in finding["data"]
    ]
    dumps = [part for part in parts if part["name"].endswith(".pt")]
    leads = [(part["rank"], part["outcome"]) for part in parts if part["leads"]]
    errors = [part["rank"] for part in parts if part["outcome"] == "error"]
    if len(dumps) != sizes.ranks or {part["rank"] for part in dumps} != set(range(sizes.ranks)):
        return f"wanted {sizes.ranks} dumps, each of its rank, found {len(dumps)}"
    if leads != [(sizes.bad, "error")] or errors != [sizes.bad]:
        return f"wanted rank {sizes.bad} in error and no other, found {leads} that leads, {errors} in error"
    return ""


def table_named(said: dict[str, Any]) -> str:
    """The same of a single dump: the frozen-KV bug is named, and how many entries are outside."""
    first = next((finding["text"] for finding in said["findings"] if finding["subject"] == "verdict"), "nothing")
    return "" if first.startswith("ERROR: g4diag: page_table_") else f"wanted an error of the table, found {first}"


CASES: dict[str, tuple[Callable[[Path], None], Callable[[dict[str, Any]], str]]] = {
    "ranks": (make_ranks, ranks_named),
    "pool": (make_pool, table_named),
    "rows": (make_rows, table_named),
}


def run_case(name: str, folder: Path) -> tuple[Cost, str, float]:
    """What the case cost, what is wrong with the answer, and MiB of evidence."""
    at = folder / name if name == "ranks" else folder / f"{name}.pt"
    # In a process of its own: this one stays small, as a child starts with its parent's peak.
    subprocess.run([sys.executable, __file__, "--make", name, str(at)], check=True)
    size = sum(path.stat().st_size for path in ([at] if at.is_file() else at.rglob("*")) if path.is_file()) / 2**20
    answer = subprocess.run([*G4DIAG, "inspect", "--json", str(at)], capture_output=True, text=True, check=False)
    if answer.returncode != 1:
        return Cost(0, 0, 0), f"wanted exit 1, found {answer.returncode}: {answer.stderr[-300:]}", size
    return measured([*G4DIAG, "inspect", str(at)], [1]), CASES[name][1](json.loads(answer.stdout)), size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; may be given again")
    parser.add_argument("--make", nargs=2, metavar=("CASE", "PATH"), help="only write the evidence of that case there")
    arguments = parser.parse_args()
    if arguments.make:
        name, path = arguments.make
        Path(path).mkdir() if name == "ranks" else None
        CASES[name][0](Path(path))
        return 0
    shown = Table("case", "evidence MiB", "wall s", "cpu s", "peak MiB", "goal", box=None, pad_edge=False)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.case or CASES:
            try:
                cost, said, size = run_case(name, Path(folder))
            except (CannotRun, OSError, subprocess.SubprocessError) as problem:
                print(f"inspect_scale: cannot run: {problem}", file=sys.stderr)
                return 3
            met = "met" if cost.wall < GOAL_SECONDS and cost.mib < GOAL_MIB else "MISSED"
            shown.add_row(name, f"{size:.0f}", f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.mib:.0f}", met)
            wrong += [f"{name}: {said}"] if said else []
    Console(width=100).print(shown)
    print(*wrong or [f"every answer is right; goals: under {GOAL_SECONDS:g} s and {GOAL_MIB:g} MiB"], sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
