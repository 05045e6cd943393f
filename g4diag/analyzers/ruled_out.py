"""What it was not, and what says so. Only hypotheses that this file can refute are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from g4diag.analyzers.causes import headline
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.explanations import explanations, winner
from g4diag.analyzers.judging import Judged, Judgement, judge
from g4diag.analyzers.tables import bad_BP, outside_BP
from g4diag.model import AttentionRead, Finding, Grade, Incident, IndexMapping

_ALLOCATOR = ("slot_inside_allocator", "slot_has_one_owner", "page_is_handed_out_whole", "free_of_live_only")
_FULL = 0.99


def analyze(incident: Incident) -> Iterator[Finding]:
    """One finding a refuted hypothesis; `by` is the measurement. Nothing for a clean file."""
    judgement = judge(incident)
    first = headline(incident)
    if first is None:
        return
    if isinstance(first.view, AttentionRead):
        yield from _of_read(first.view, first, judgement, incident)
    yield from _allocator(judgement)
    yield from _full_pools(incident)


def _of_read(read: AttentionRead, first: Judged, judgement: Judgement, incident: Incident) -> Iterator[Finding]:
    bad, row, column = bad_BP(read), first.violation.row, first.violation.column
    if bad.any() and not outside_BP(read).any():
        count = int(read.live_BP().sum())
        yield _out("a read past the pool", f"all {count} live ids are inside 0 .. {read.pool.num_pages - 1}")
    if row is not None and column is not None:
        live = np.flatnonzero(read.live_BP()[row])
        keys = f"{int(read.seq_lens_B[row])} keys" + (f", window {read.window_left}" if read.window_left >= 0 else "")
        if len(live):
            place = f"column {column} is one of the live {int(live[0])}..{int(live[-1])} of row {row} ({keys})"
            yield _out("a stale entry the kernel never follows", place)
        if read.batch_rows is not None and row < read.batch_rows:
            yield _out("a padding row of a graph", f"row {row} is one of the batch's {read.batch_rows}")
    silent = {r.name for r in judgement.rows if r.judged and not r.violations}
    if read.batch_lens_B is not None and "table_is_of_this_step" in silent and _is_of_this_batch(read, incident):
        held = "its lengths are the batch's own, and its ids the batch's own in the other space"
        yield _out("metadata of another step", held)
    mapping = read.mapping or incident.mapping
    if mapping is not None and read.full_page_table_BP is not None:
        yield from _mapping(read, mapping)


def _is_of_this_batch(read: AttentionRead, incident: Incident) -> bool:
    """Every live id is what this batch has there, by number of the other space. Lengths alone would not tell: a table
    that a replay did not copy is read with the right ones."""
    best = winner(explanations(read, incident))
    return best is not None and best.name in ("full-ids", "swa-ids") and best.explained == best.of


def _mapping(read: AttentionRead, mapping: IndexMapping) -> Iterator[Finding]:
    """Every page in the window of this batch is mapped, to one SWA page each."""
    assert read.full_page_table_BP is not None
    full = np.unique(read.full_page_table_BP[read.live_BP()])
    swa = replace(mapping, page_size=read.pool.page_size).swa_pages(full[full > 0])
    unit = read.expected_space.unit
    if read.expected_space.is_swa and len(swa) and (swa > 0).all() and len(np.unique(swa)) == len(swa):
        yield _out("a damaged mapping", f"the {len(swa)} live full {unit}s map to {len(swa)} different SWA {unit}s")


def _allocator(judgement: Judgement) -> Iterator[Finding]:
    rows = [row for row in judgement.rows if row.name in _ALLOCATOR and (row.judged or row.error)]
    if rows and not any(row.violations or row.error for row in rows):
        views = max(row.judged for row in rows)
        by = f"{len(rows)} traps are silent on {views} calls"
        yield _out("an allocator that hands out wrong slots", by, traps=list(_ALLOCATOR))


def _full_pools(incident: Incident) -> Iterator[Finding]:
    roomy = [(pool, use) for pool in incident.pools if (use := pool.use) is not None]
    if roomy and all(use < _FULL for _, use in roomy):
        told = ", ".join(f"{pool.name} {use:.0%}" for pool, use in roomy)
        yield _out("an exhausted pool", f"pages in use: {told}")


def _out(hypothesis: str, by: str, **more: object) -> Finding:
    data = {"hypothesis": hypothesis, "by": by} | more
    return Finding("ruled_out", f"{hypothesis}: {by}", Grade.MEASURED, False, data)


ANALYZER = Analyzer("ruled_out", "What was it not, and by what is that known?", analyze)
