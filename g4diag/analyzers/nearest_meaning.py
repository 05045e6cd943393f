"""Every offending page-table entry, with what its id would mean in the other index space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.cross_space import Meaning, meanings_of, placed, sentence
from g4diag.analyzers.tables import bad_reads
from g4diag.model import AttentionRead, Finding, Incident

_SHOWN_PER_READ = 8
_SHOWN_READS = 4


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a read with bad entries: the first _SHOWN_PER_READ of them, and how many more there are."""
    found = bad_reads(incident)
    for read, bad in found[:_SHOWN_READS]:
        places = np.argwhere(bad)
        shown = places[:_SHOWN_PER_READ].tolist()
        meanings = meanings_of(read, shown, incident)
        entries = [_entry(read, row, column, meaning) for (row, column), meaning in zip(shown, meanings, strict=True)]
        first = placed(meanings[0], read, shown[0][0], shown[0][1], incident)
        data = {
            "read": next(n for n, other in enumerate(incident.reads) if other is read),
            "step": read.step,
            "layer_id": read.layer_id,
            "layer_kind": str(read.layer_kind),
            "pool": read.pool.name,
            "num_pages": read.pool.num_pages,
            "expected_space": str(read.expected_space),
            "path": read.path,
            "entries": entries,
            "left_out": len(places) - len(entries),
            "left_out_reads": max(len(found) - _SHOWN_READS, 0),
        }
        # The sentence is of the first entry.
        yield Finding("nearest_meaning", sentence(meanings[0]), meanings[0].grade, True, first | data, "meaning")


def _entry(read: AttentionRead, row: int, column: int, meaning: Meaning) -> dict[str, Any]:
    value = int(read.page_table_BP[row, column])
    expected_BP = read.expected_BP()
    past = value - read.pool.num_pages + 1
    return {
        "row": row,
        "rid": read.rids[row] if row < len(read.rids) else None,
        "column": column,
        "first_position": (int(read.starts_B()[row]) + column) * read.pool.page_size,
        "value": value,
        "expected": None if expected_BP is None else int(expected_BP[row, column]),
        "past_the_end": past if past > 0 else None,
        "meaning": sentence(meaning),
        "grade": str(meaning.grade),
        "owner": _owner(meaning),
        "other_space_page": meaning.other,
        "on_free_list": meaning.free,
    }


def _owner(meaning: Meaning) -> dict[str, Any] | None:
    owner = meaning.owner
    return None if owner is None else {"rid": owner.rid, "first": owner.first, "last": owner.last}


ANALYZER = Analyzer("nearest_meaning", "What do the offending ids mean in the other index space?", analyze)
