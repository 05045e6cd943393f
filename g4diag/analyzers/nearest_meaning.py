"""Every offending page-table entry, with what its id would mean in the other index space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.meaning import meaning_of, sentence
from g4diag.model import AttentionRead, BoolArray, Finding, Incident

_SHOWN_PER_READ = 8
_SHOWN_READS = 4


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a read with bad entries: the first _SHOWN_PER_READ of them, and how many more there are."""
    bad = [(read, bad_BP) for read in incident.reads if (bad_BP := _bad_BP(read)).any()]
    for read, bad_BP in bad[:_SHOWN_READS]:
        places = np.argwhere(bad_BP)
        entries = [_entry(read, int(row), int(column), incident) for row, column in places[:_SHOWN_PER_READ]]
        meaning = meaning_of(read, entries[0]["row"], entries[0]["column"], incident)
        data = {
            "step": read.step,
            "layer_id": read.layer_id,
            "layer_kind": str(read.layer_kind),
            "pool": read.pool.name,
            "num_pages": read.pool.num_pages,
            "path": read.path,
            "entries": entries,
            "left_out": len(places) - len(entries),
            "left_out_reads": max(len(bad) - _SHOWN_READS, 0),
        }
        yield Finding("nearest_meaning", sentence(meaning), meaning.grade, True, data)


def _bad_BP(read: AttentionRead) -> BoolArray:
    """bool[B, P]: live entries that are outside the pool, or are not the page that belongs there."""
    table_BP, expected_BP = read.page_table_BP, read.expected_BP()
    bad_BP: BoolArray = (table_BP < 0) | (table_BP >= read.pool.num_pages)
    if expected_BP is not None:
        bad_BP = bad_BP | (table_BP != expected_BP)
    return bad_BP & read.live_BP()


def _entry(read: AttentionRead, row: int, column: int, incident: Incident) -> dict[str, Any]:
    value = int(read.page_table_BP[row, column])
    expected_BP = read.expected_BP()
    meaning = meaning_of(read, row, column, incident)
    past = value - read.pool.num_pages + 1
    return {
        "row": row,
        "rid": read.rids[row] if row < len(read.rids) else None,
        "column": column,
        "first_position": column * read.pool.page_size,
        "value": value,
        "expected": None if expected_BP is None else int(expected_BP[row, column]),
        "past_the_end": past if past > 0 else None,
        "meaning": sentence(meaning),
        "grade": str(meaning.grade),
        "owner": asdict(meaning.owner) if meaning.owner else None,
        "other_space_page": meaning.other,
        "on_free_list": meaning.free,
    }


ANALYZER = Analyzer("nearest_meaning", "What do the offending ids mean in the other index space?", analyze)
