"""The page tables as pictures: what each entry is, row by column, and what the live ones mean in both spaces.

A large table is cut to its live columns, then bucketed; the worst entry of a bucket stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.cross_space import meanings_of, sentence
from g4diag.model import AttentionRead, Finding, Grade, Incident, IntArray

_READS, _ROWS, _COLUMNS, _CELLS, _MARGIN = 4, 64, 128, 4000, 3
# From harmless to worst; the sign stands for the entry in `rows`.
_STATES = (
    (".", "not live"),
    ("o", "right page"),
    ("?", "inside the bound, not judged"),
    ("w", "wrong page, inside the bound"),
    ("<", "before the first page"),
    (">", "past the end"),
)
_NOT_LIVE, _RIGHT, _UNKNOWN, _WRONG, _NEGATIVE, _PAST = range(len(_STATES))


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a read with bad entries, the first _READS of them; the first read if none has any."""
    reads = [read for read in incident.reads if read.page_table_BP.size]
    judged = [(read, _states_BP(read)) for read in reads]
    bad = [(read, states_BP) for read, states_BP in judged if (states_BP >= _WRONG).any()]
    shown = bad[:_READS] or judged[:1]
    for read, states_BP in shown:
        data = _picture(read, states_BP, incident, _CELLS // len(shown))
        data |= {"left_out_reads": max(len(bad) - _READS, 0)} | _told(read, states_BP)
        data |= {"read": next(n for n, other in enumerate(incident.reads) if other is read)}
        yield Finding("table_map", _text(read, data), Grade.MEASURED, bool(bad), data, "table")


def _states_BP(read: AttentionRead) -> IntArray:
    """int8[B, P]: index into _STATES of each entry."""
    table_BP, expected_BP = read.page_table_BP, read.expected_BP()
    if expected_BP is None:
        states_BP = np.full(table_BP.shape, _UNKNOWN, dtype=np.int8)
    else:
        states_BP = np.where(table_BP == expected_BP, _RIGHT, _WRONG).astype(np.int8)
    states_BP[table_BP < 0] = _NEGATIVE
    states_BP[table_BP >= read.pool.num_pages] = _PAST
    states_BP[~read.live_BP()] = _NOT_LIVE
    return states_BP


def _told(read: AttentionRead, states_BP: IntArray) -> dict[str, int]:
    bad_BP, expected_BP = states_BP >= _WRONG, read.expected_BP()
    belong_BP = bad_BP & (read.page_table_BP == expected_BP) if expected_BP is not None else np.zeros_like(bad_BP)
    return {
        "live": int((states_BP > _NOT_LIVE).sum()),
        "bad": int(bad_BP.sum()),
        "bad_rows": int(bad_BP.any(axis=1).sum()),
        "not_judged": int((states_BP == _UNKNOWN).sum()),
        "belong": int(belong_BP.sum()),
    }


def _text(read: AttentionRead, told: dict[str, Any]) -> str:
    bad, belong, unit = told["bad"], told["belong"], read.expected_space.unit
    where = f", in {told['bad_rows']} of {told['table_rows']} rows" if bad else ""
    where += f", {told['not_judged']} cannot be judged" if told["not_judged"] else ""
    whose = f" of layer {read.layer_id}" if read.layer_id >= 0 else ""
    # The right id is not wrong where the pool ends before it.
    how = "are wrong or outside the pool" if belong else "are wrong"
    also = f"; {belong} of them are the {unit}s that belong there, outside the pool that is read" if belong else ""
    text = f"{bad} of {told['live']} live entries{whose} {how}{where}{also}"
    return f"{text}; the table has {told['table_columns']} columns"


def _picture(read: AttentionRead, states_BP: IntArray, incident: Incident, budget: int) -> dict[str, Any]:
    first, last = _live_columns(states_BP)
    rows, columns = states_BP.shape[0], last - first + 1
    # Slices of this many rows and columns make one cell.
    tall, wide = -(-rows // _ROWS), -(-columns // _COLUMNS)
    cut_BP = states_BP[:, first : last + 1]
    worst = np.maximum.reduceat(cut_BP, np.arange(0, rows, tall), axis=0)
    worst = np.maximum.reduceat(worst, np.arange(0, columns, wide), axis=1)
    signs = np.array([sign for sign, _ in _STATES])
    return {
        "step": read.step,
        "layer_id": read.layer_id,
        "layer_kind": str(read.layer_kind),
        "pool": read.pool.name,
        "num_pages": read.pool.num_pages,
        "page_size": read.pool.page_size,
        "expected_space": str(read.expected_space),
        "table_space": None if read.table_space is None else str(read.table_space),
        "table_rows": rows,
        "table_columns": states_BP.shape[1],
        "first_column": first,
        "columns_a_cell": wide,
        "rows_a_cell": tall,
        "rids": [*read.rids[:rows:tall]],
        "rows": ["".join(line) for line in signs[worst]],
        "legend": {sign: name.replace("page", read.expected_space.unit) for sign, name in _STATES},
        "counts": {sign: int((states_BP == state).sum()) for state, (sign, _) in enumerate(_STATES)},
        **_cells(read, cut_BP, worst, (tall, wide, first), budget, incident),
    }


def _live_columns(states_BP: IntArray) -> tuple[int, int]:
    """First and last column to show: the live ones of any row, and a margin."""
    live_P = np.flatnonzero((states_BP > _NOT_LIVE).any(axis=0))
    end = states_BP.shape[1] - 1
    return (max(int(live_P[0]) - _MARGIN, 0), min(int(live_P[-1]) + _MARGIN, end)) if len(live_P) else (0, end)


def _cells(
    read: AttentionRead,
    cut_BP: IntArray,
    worst: IntArray,
    scale: tuple[int, int, int],
    budget: int,
    incident: Incident,
) -> dict[str, Any]:
    """The worst entry of each cell in words, the worst cells first, `budget` at most."""
    tall, wide, first = scale
    at = np.argwhere(worst > _NOT_LIVE)
    at = at[np.argsort(-worst[at[:, 0], at[:, 1]], kind="stable")]
    places = []
    for y, x in at[:budget]:
        block = cut_BP[y * tall : (y + 1) * tall, x * wide : (x + 1) * wide]
        row, column = divmod(int(block.argmax()), block.shape[1])
        places.append((int(y) * tall + row, first + int(x) * wide + column))
    expected_BP = read.expected_BP()
    meanings = meanings_of(read, places, incident)
    cells = [
        {
            "row": row,
            "column": column,
            "first_position": meaning.serves[0],
            "value": meaning.value,
            "expected": None if expected_BP is None else int(expected_BP[row, column]),
            "meaning": sentence(meaning),
            "owner": None if meaning.owner is None else meaning.owner.rid,
        }
        for (row, column), meaning in zip(places, meanings, strict=True)
    ]
    return {"cells": cells, "left_out_cells": len(at) - len(cells)}


ANALYZER = Analyzer("table_map", "Which entries of the page tables are wrong, and where do they stand?", analyze)
