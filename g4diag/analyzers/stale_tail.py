"""Ids past the pool that no query reads: columns after a row's last key, or before its window. Legal, and worth a word.

A table is filled to its width, and what lies past a row's last page is left from an earlier request. A person who
prints the table sees them first.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.tables import no_page_BP, outside_BP
from g4diag.model import Finding, Grade, Incident

_READS = 4


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding for each of the first reads whose only ids outside the pool are ones that no query reads."""
    outside = [(index, read, no_page_BP(read)) for index, read in enumerate(incident.reads)]
    found = [(index, read, at_BP) for index, read, at_BP in outside if at_BP.any() and not outside_BP(read).any()]
    for index, read, at_BP in found[:_READS]:
        count, rows, unit = int(at_BP.sum()), int(at_BP.any(axis=1).sum()), read.expected_space.unit
        whose = f"layer {read.layer_id}" if read.layer_id >= 0 else "this read"
        text = f"{count} ids in {rows} rows of {whose} are outside its pool of {read.pool.num_pages} {unit}s, all of "
        text += "them where no query reads: after the row's last key or before its window. That is legal"
        data = {"read": index, "count": count, "rows": rows, "layer_id": read.layer_id, "bound": read.pool.num_pages}
        yield Finding("stale_tail", text, Grade.MEASURED, False, data, kind="stale-tail")


ANALYZER = Analyzer("stale_tail", "Are there ids past the pool that nobody reads?", analyze)
