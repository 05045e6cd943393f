"""Oracles of what is ruled out: the measurement holds, and with it the hypothesis cannot."""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.model import Finding, Incident
from tests.oracles import arrays
from tests.oracles.claims import CLAIMS, broken_in, judged_in
from tests.oracles.contract import Oracle, differ, says

_ALLOCATOR = ("free_of_live_only", "page_is_handed_out_whole", "slot_has_one_owner", "slot_inside_allocator")


def inside(finding: Finding, incident: Incident) -> Iterator[str]:
    read = incident.reads[finding.data["read"]]
    alive = arrays.live(read)
    yield from differ(finding.data, {"live": len(alive), "low": 0, "last": read.pool.num_pages - 1})
    for other in incident.reads:
        if any(arrays.is_outside(other, at) for at in arrays.live(other)):
            yield f"a read of layer {other.layer_id} goes past its pool"


def live_column(finding: Finding, incident: Incident) -> Iterator[str]:
    data, read = finding.data, incident.reads[finding.data["read"]]
    columns = [column for row, column in arrays.live(read) if row == data["row"]]
    wanted = {"columns": [columns[0], columns[-1]], "keys": int(read.seq_lens_B[data["row"]])}
    yield from differ(data, wanted | {"window_left": read.window_left})
    if data["column"] not in columns:
        yield "no query reads it"


def batch_row(finding: Finding, incident: Incident) -> Iterator[str]:
    data, read = finding.data, incident.reads[finding.data["read"]]
    yield from differ(data, {"batch_rows": read.batch_rows})
    if not 0 <= data["row"] < (read.batch_rows or 0):
        yield "it is padding"


def this_step(finding: Finding, incident: Incident) -> Iterator[str]:
    """The lengths are the batch's, and every id is the batch's own page by the other space's number."""
    read = incident.reads[finding.data["read"]]
    if read.batch_lens_B is None or read.batch_lens_B.tolist() != read.seq_lens_B.tolist():
        yield "the lengths are not the batch's"
    if read.full_page_table_BP is None or arrays.expected(read) is None:
        yield "the batch's own ids are not in the file"
        return
    for at in arrays.live(read):
        full = int(read.full_page_table_BP[at[0]][at[1]])
        other = full
        if not arrays.is_swa(read.pool):
            assert read.mapping is not None
            other = arrays.swa_page(read.mapping, full, read.mapping.page_size)
        if arrays.value(read, at) != other:
            yield f"{at} is not the batch's own"


def mapped_apart(finding: Finding, incident: Incident) -> Iterator[str]:
    read = incident.reads[finding.data["read"]]
    mapping = read.mapping or incident.mapping
    assert read.full_page_table_BP is not None
    full = {int(read.full_page_table_BP[row][column]) for row, column in arrays.live(read)}
    swa = [arrays.swa_page(mapping, page, read.pool.page_size) for page in full if page > 0]
    yield from differ(finding.data, {"pages": len(swa)})
    if min(swa) < 1 or len({*swa}) != len(swa):
        yield "one is unmapped, or two share one"


def calls_hold(finding: Finding, incident: Incident) -> Iterator[str]:
    data, there = finding.data, {name: getattr(incident, CLAIMS[name][0]) for name in _ALLOCATOR}
    ran = [name for name in _ALLOCATOR if there[name]]
    calls = len(incident.allocations) + len(incident.releases)
    yield from differ(data | {"traps": sorted(data["traps"])}, {"traps": ran, "count": len(ran), "calls": calls})
    if not incident.allocations:
        yield "no allocation is in the file"
    for name in ran:
        if broken_in(incident, name) or judged_in(incident, name) != len(there[name]):
            yield f"{name} is broken, or cannot judge each call"


def roomy(finding: Finding, incident: Incident) -> Iterator[str]:
    if not incident.pools:
        yield "there are no pools"
    for pool in incident.pools:
        if pool.free_pages_N is None or not len(pool.free_pages_N):
            yield f"{pool.name} has no free page that is known"
        elif finding.data["use"].get(pool.name) != arrays.use(pool):
            yield f"{pool.name} is {arrays.use(pool)} in use"
    if any(0 in (step.full_free, step.swa_free) for step in arrays.steps(incident)):
        yield "the recorder saw a pool full"
    yield from says(finding.text, {"an exhausted pool: ": True})


ORACLES: dict[str, Oracle] = {
    **{"inside": inside, "live-column": live_column, "batch-row": batch_row, "this-step": this_step},
    **{"mapped-apart": mapped_apart, "calls-hold": calls_hold, "roomy": roomy},
}
