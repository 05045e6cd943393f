"""Which layers read which pool with which table, and which of them were handed a wrong one: with an id in it that is
not the one that belongs there, or that is past the pool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.tables import bad_BP
from g4diag.model import AttentionRead, Finding, Grade, Incident

_LAYERS = 128


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding with a row for each worker, layer, pool and kind of table, in layer order."""
    rows: dict[tuple[str, int, str, str, str], dict[str, Any]] = {}
    for read in incident.reads:
        table = str(read.table_space or "unknown")
        key = read.worker, read.layer_id, str(read.layer_kind), read.pool.name, table
        row = rows.setdefault(key, _row(read, table))
        bad = int(bad_BP(read).sum())
        row["reads"] += 1
        row["bad_reads"] += bad > 0
        row["bad_entries"] += bad
    if not rows:
        return
    ordered = [rows[key] for key in sorted(rows)]
    wrong = [row for row in ordered if row["bad_reads"]]
    kinds = ", ".join(sorted({row["layer_kind"] for row in wrong}))
    # A layer has several rows where it was handed tables of several kinds.
    bad, all_of = len(_layers(wrong)), len(_layers(ordered))
    text = f"{bad} of {all_of} recorded layers were handed a wrong table" + (f": {kinds}" if kinds else "")
    data = {"layers": ordered[:_LAYERS], "left_out": max(len(ordered) - _LAYERS, 0), "wrong": bad, "recorded": all_of}
    yield Finding("layer_map", text, Grade.MEASURED, False, data, "layers")


def _layers(rows: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(row["worker"], row["layer_id"]) for row in rows}


def _row(read: AttentionRead, table: str) -> dict[str, Any]:
    return {
        "worker": read.worker,
        "layer_id": read.layer_id,
        "layer_kind": str(read.layer_kind),
        "window_left": read.window_left,
        "pool": read.pool.name,
        "num_pages": read.pool.num_pages,
        "wants": str(read.expected_space),
        "table": table,
        "reads": 0,
        "bad_reads": 0,
        "bad_entries": 0,
    }


ANALYZER = Analyzer("layer_map", "Which layers read which pool with which table?", analyze)
