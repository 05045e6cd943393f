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
    yield from _allocator(judgement, incident)
    yield from _full_pools(incident)


def _of_read(read: AttentionRead, first: Judged, judgement: Judgement, incident: Incident) -> Iterator[Finding]:
    bad, row, column = bad_BP(read), first.violation.row, first.violation.column
    place = {"read": next(n for n, other in enumerate(incident.reads) if other is read)}
    if bad.any() and not outside_BP(read).any():
        count = int(read.live_BP().sum())
        last = read.pool.num_pages - 1
        by = f"all {count} live ids of this read are inside 0 .. {last}"
        yield _out("a read past the pool", by, "inside", live=count, low=0, last=last, **place)
    if row is not None and column is not None:
        live = np.flatnonzero(read.live_BP()[row])
        keys = f"{int(read.seq_lens_B[row])} keys" + (f", window {read.window_left}" if read.window_left >= 0 else "")
        if len(live):
            ends = [int(live[0]), int(live[-1])]
            by = f"column {column} is one of the live {ends[0]}..{ends[1]} of row {row} ({keys})"
            data = {"column": column, "columns": ends, "row": row, "keys": int(read.seq_lens_B[row])}
            data |= {"window_left": read.window_left, **place}
            yield _out("a stale entry the kernel never follows", by, "live-column", **data)
        if read.batch_rows is not None and row < read.batch_rows:
            by = f"row {row} is one of the batch's {read.batch_rows}"
            yield _out("a padding row of a graph", by, "batch-row", row=row, batch_rows=read.batch_rows, **place)
    silent = {r.name for r in judgement.rows if r.judged and not r.violations}
    if read.batch_lens_B is not None and "table_is_of_this_step" in silent and _is_of_this_batch(read, incident):
        held = "its lengths are the batch's own, and its ids the batch's own in the other space"
        yield _out("metadata of another step", held, "this-step", **place)
    mapping = read.mapping or incident.mapping
    if mapping is not None and read.full_page_table_BP is not None:
        yield from _mapping(read, mapping, place)


def _is_of_this_batch(read: AttentionRead, incident: Incident) -> bool:
    """Every live id is what this batch has there, by number of the other space. Lengths alone would not tell: a table
    that a replay did not copy is read with the right ones. Nor does a table's shape, where its ids are not known."""
    if read.expected_BP() is None:
        return False
    best = winner(explanations(read, incident))
    return best is not None and best.name in ("full-ids", "swa-ids") and best.explained == best.of


def _mapping(read: AttentionRead, mapping: IndexMapping, place: dict[str, int]) -> Iterator[Finding]:
    """Every page in the window of this batch is mapped, to one SWA page each. Whether it is the right one, a mapping
    alone does not tell: two requests' parts of it may have been swapped."""
    assert read.full_page_table_BP is not None
    full = np.unique(read.full_page_table_BP[read.live_BP()])
    swa = replace(mapping, page_size=read.pool.page_size).swa_pages(full[full > 0])
    unit = read.expected_space.unit
    if read.expected_space.is_swa and len(swa) and (swa > 0).all() and len(np.unique(swa)) == len(swa):
        by = f"the {len(swa)} live full {unit}s map to {len(swa)} different SWA {unit}s"
        yield _out(f"a live {unit} unmapped, or mapped with another", by, "mapped-apart", pages=len(swa), **place)


def _allocator(judgement: Judgement, incident: Incident) -> Iterator[Finding]:
    """Only of the calls that are in the file, and only where all of these could judge every one of them."""
    rows = [row for row in judgement.rows if row.name in _ALLOCATOR and (row.views or row.error)]
    calls = len(incident.allocations)
    if not calls or any(row.violations or row.error or row.judged < row.views for row in rows):
        return
    traps = [row.name for row in rows]
    by = f"{len(rows)} traps are silent on the {calls + len(incident.releases)} calls of this file"
    data = {"count": len(rows), "calls": calls + len(incident.releases)}
    yield _out("an allocator that handed out wrong slots in a call recorded", by, "calls-hold", traps=traps, **data)


def _full_pools(incident: Incident) -> Iterator[Finding]:
    """Where each pool's free list was taken and has pages, and no step of the recorder found one full."""
    uses = {pool.name: use for pool in incident.pools if (use := pool.use) is not None}
    filled = any(step.full_size > 0 == step.full_free or step.swa_size > 0 == step.swa_free for step in incident.ring)
    if uses and len(uses) == len(incident.pools) and not filled and all(use < _FULL for use in uses.values()):
        told = ", ".join(f"{name} {use:.0%}" for name, use in uses.items())
        yield _out("an exhausted pool", f"pages in use: {told}", "roomy", use=uses)


def _out(hypothesis: str, by: str, kind: str, **more: object) -> Finding:
    data = {"hypothesis": hypothesis, "by": by} | more
    return Finding("ruled_out", f"{hypothesis}: {by}", Grade.MEASURED, False, data, kind)


ANALYZER = Analyzer("ruled_out", "What was it not, and by what is that known?", analyze)
