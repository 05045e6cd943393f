"""What can go wrong in a healthy world, one fault a function: (random, incident) -> the incident with the fault in it.

Some leave a world as healthy as it was, where there is nothing to damage; nothing here says what has to be found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from g4diag.model import AttentionRead, Incident, KVWrite, PoolView, Severity, Violation

Fault = Callable[[Random, Incident], Incident]
FAULTS: dict[str, Fault] = {}


def _fault(made: Fault) -> Fault:
    FAULTS[made.__name__] = made
    return made


def _of_table(made: Callable[[Random, AttentionRead], AttentionRead]) -> Fault:
    """A fault of one read of the incident."""

    def fault(rng: Random, incident: Incident) -> Incident:
        at = rng.randrange(len(incident.reads))
        reads = [made(rng, read) if n == at else read for n, read in enumerate(incident.reads)]
        return replace(incident, reads=tuple(reads))

    FAULTS[made.__name__] = fault
    return fault


def _with(read: AttentionRead, table_BP: Any, **more: Any) -> AttentionRead:
    return replace(read, page_table_BP=table_BP.astype(np.int32), **more)


def _somewhere(rng: Random, read: AttentionRead, value: int) -> AttentionRead:
    table_BP = read.page_table_BP.copy()
    rows, columns = table_BP.shape
    for _ in range(rng.choice((1, 3, rows * columns))):
        table_BP[rng.randrange(rows), rng.randrange(columns)] = value
    return _with(read, table_BP)


@_of_table
def ids_of_the_other_space(rng: Random, read: AttentionRead) -> AttentionRead:
    if read.full_page_table_BP is None:
        return read
    if read.expected_space.is_swa or read.mapping is None:
        return _with(read, read.full_page_table_BP, table_space=rng.choice((None, read.expected_space.other)))
    return _with(read, read.mapping.swa_pages(read.full_page_table_BP))


@_of_table
def clamped_ids(rng: Random, read: AttentionRead) -> AttentionRead:
    if read.full_page_table_BP is None:
        return read
    small = replace(read.pool, num_pages=max(read.pool.num_pages // 3, 2))
    return _with(read, np.minimum(read.full_page_table_BP, small.num_pages - 1), is_clamped=True, pool=small)


@_of_table
def slots_for_pages(rng: Random, read: AttentionRead) -> AttentionRead:
    table = rng.choice((read.page_table_BP, read.full_page_table_BP))
    return read if table is None else _with(read, table * read.pool.page_size + rng.choice((0, 1)))


@_of_table
def shifted(rng: Random, read: AttentionRead) -> AttentionRead:
    return _with(read, np.roll(read.page_table_BP, rng.choice((1, -1)), axis=1))


@_of_table
def rows_of_another(rng: Random, read: AttentionRead) -> AttentionRead:
    return _with(read, np.roll(read.page_table_BP, 1, axis=0))


@_of_table
def negative_ids(rng: Random, read: AttentionRead) -> AttentionRead:
    return _somewhere(rng, read, rng.choice((-1, -7)))


@_of_table
def zeros(rng: Random, read: AttentionRead) -> AttentionRead:
    return _somewhere(rng, read, 0)


@_of_table
def any_id(rng: Random, read: AttentionRead) -> AttentionRead:
    return _somewhere(rng, read, rng.choice((1, 5, read.pool.num_pages - 1, read.pool.num_pages, 1 << 30)))


@_of_table
def stale_lengths(rng: Random, read: AttentionRead) -> AttentionRead:
    lens_B = np.maximum(read.seq_lens_B - rng.choice((1, read.pool.page_size)), 1)
    return replace(read, seq_lens_B=lens_B, batch_lens_B=read.seq_lens_B.astype(np.int64))


@_of_table
def stale_tail(rng: Random, read: AttentionRead) -> AttentionRead:
    """Legal, whatever stands there."""
    table_BP = np.where(read.live_BP(), read.page_table_BP, read.pool.num_pages + rng.randint(0, 9))
    return _with(read, table_BP)


@_of_table
def columns_cut(rng: Random, read: AttentionRead) -> AttentionRead:
    keep = max(read.page_table_BP.shape[1] - rng.choice((1, 2)), 1)
    both = {name: getattr(read, name) for name in ("full_page_table_BP", "handed_out_BP")}
    cut = {name: None if pages is None else pages[:, :keep] for name, pages in both.items()}
    return _with(read, read.page_table_BP[:, :keep], **cut)


@_of_table
def rows_cut(rng: Random, read: AttentionRead) -> AttentionRead:
    return replace(read, batch_rows=len(read.seq_lens_B) + rng.choice((1, 2)))


@_of_table
def pool_too_small(rng: Random, read: AttentionRead) -> AttentionRead:
    return replace(read, pool=replace(read.pool, num_pages=max(read.pool.num_pages // 2, 1)))


@_of_table
def label_alone(rng: Random, read: AttentionRead) -> AttentionRead:
    return replace(read, table_space=read.expected_space.other)


@_of_table
def nothing_to_expect(rng: Random, read: AttentionRead) -> AttentionRead:
    return replace(_somewhere(rng, read, read.pool.num_pages + 3), full_page_table_BP=None)


@_of_table
def unmapped_in_the_window(rng: Random, read: AttentionRead) -> AttentionRead:
    if read.mapping is None or read.full_page_table_BP is None:
        return read
    slots_M = read.mapping.full_to_swa_M.copy()
    size = read.mapping.page_size
    page = int(rng.choice(read.full_page_table_BP[read.live_BP()].tolist()))
    slots_M[page * size : (page + 1) * size] = 0
    mapping = replace(read.mapping, full_to_swa_M=slots_M)
    table = mapping.swa_pages(read.full_page_table_BP) if read.expected_space.is_swa else read.page_table_BP
    return _with(read, table, mapping=mapping)


@_of_table
def mapped_to_anothers(rng: Random, read: AttentionRead) -> AttentionRead:
    """A full page of the window has another's SWA page, by the mapping and so by the table."""
    if read.mapping is None or read.full_page_table_BP is None or read.handed_out_BP is None:
        return read
    slots_M, size = read.mapping.full_to_swa_M.copy(), read.mapping.page_size
    page, other = (int(rng.choice(read.full_page_table_BP[read.live_BP()].tolist())) for _ in range(2))
    slots_M[page * size : (page + 1) * size] = slots_M[other * size : (other + 1) * size]
    mapping = replace(read.mapping, full_to_swa_M=slots_M)
    owner = rng.choice((None, np.where(read.full_page_table_BP == page, other, 0), np.zeros_like(read.handed_out_BP)))
    return _with(read, mapping.swa_pages(read.full_page_table_BP), mapping=mapping, owner_BP=owner)


@_of_table
def rows_given_away(rng: Random, read: AttentionRead) -> AttentionRead:
    """Since the batch was built: to another, to nobody; or it is another's row that is read."""
    if (owners := read.row_owners) is None:
        return read
    changes: tuple[dict[str, Any], ...] = (
        {"now_rids": ("r9", *owners.now_rids[1:]), "now_taken_B": owners.now_taken_B + 1},
        {"now_rids": ("", *owners.now_rids[1:])},
        {"rows_B": np.where(owners.rows_B < 0, owners.rows_B, owners.rows_B + 7)},
        {"taken_B": np.full_like(owners.taken_B, -1)},
    )
    return replace(read, row_owners=replace(owners, **rng.choice(changes)))


@_of_table
def another_window(rng: Random, read: AttentionRead) -> AttentionRead:
    if (windows := read.windows) is None:
        return read
    changes: tuple[dict[str, int], ...] = (
        {"built": windows.built + 1},
        {"kept": max(windows.kept - 2, -1)},
        {"kept": windows.widest + 1},
    )
    return replace(read, windows=replace(windows, **rng.choice(changes)))


@_of_table
def other_page_sizes(rng: Random, read: AttentionRead) -> AttentionRead:
    return replace(read, backend_page_size=rng.choice((None, 16)), allocator_page_size=2 * read.pool.page_size)


@_fault
def written_by_a_changed_mapping(rng: Random, incident: Incident) -> Incident:
    """The write follows the mapping, which is not what was handed out."""
    *others, write = incident.kv_slots
    if write.handed_out_N is None:
        return incident
    handed = rng.choice((write.handed_out_N + 1, np.zeros_like(write.handed_out_N)))
    return replace(incident, kv_slots=(*others, replace(write, handed_out_N=handed)))


@_fault
def runs_swapped(rng: Random, incident: Incident) -> Incident:
    """Two full pages' parts of the mapping change places, and the table was built before."""
    if incident.mapping is None or not incident.requests:
        return incident
    slots_M, size = incident.mapping.full_to_swa_M.copy(), incident.mapping.page_size
    pages = [int(page) for request in incident.requests for page in request.full_pages_N]
    one, other = (slice(page * size, page * size + size) for page in (rng.choice(pages), rng.choice(pages)))
    slots_M[one], slots_M[other] = slots_M[other].copy(), slots_M[one].copy()
    mapping = replace(incident.mapping, full_to_swa_M=slots_M)
    reads = tuple(replace(read, mapping=replace(mapping, page_size=read.pool.page_size)) for read in incident.reads)
    return replace(incident, mapping=mapping, reads=reads)


@_fault
def another_requests_pages(rng: Random, incident: Incident) -> Incident:
    """The only request of the file that has no row: its pages stand in the first row."""
    read = incident.reads[0]
    rest = [request for request in incident.requests if request.rid not in read.rids]
    if not rest or read.pool.page_size == 1 or read.mapping is None:
        return incident
    pages = rest[-1].full_pages_N
    pages = read.mapping.swa_pages(pages) if read.expected_space.is_swa else pages
    table_BP = read.page_table_BP.copy()
    many = min(len(pages), table_BP.shape[1])
    table_BP[0, :many] = pages[:many]
    return replace(incident, reads=(_with(read, table_BP), *incident.reads[1:]))


@_fault
def freed_twice(rng: Random, incident: Incident) -> Incident:
    first = incident.releases[0]
    alive_N = np.setdiff1d(first.live_pages_N, first.slots_N // first.pool.page_size)
    more = rng.choice((first.slots_N, first.slots_N[:1], np.zeros(2, dtype=np.int64)))
    return replace(incident, releases=(*incident.releases, replace(first, slots_N=more, live_pages_N=alive_N)))


@_fault
def handed_out_twice(rng: Random, incident: Incident) -> Incident:
    call = incident.allocations[0]
    slots_N = np.concatenate([call.slots_N, rng.choice((call.slots_N[:1], call.slots_N))])
    alive_N = rng.choice((None, np.unique(call.slots_N // call.pool.page_size)))
    return replace(incident, allocations=(*incident.allocations, replace(call, slots_N=slots_N, live_pages_N=alive_N)))


@_fault
def handed_out_wrong(rng: Random, incident: Incident) -> Incident:
    call = incident.allocations[-1]
    end, slots_N = call.pool.num_pages * call.pool.page_size, call.slots_N.copy()
    slots_N[rng.randrange(len(slots_N)) if len(slots_N) else slice(0)] = rng.choice((0, end, end - 1, -3))
    return replace(incident, allocations=(*incident.allocations[:-1], replace(call, slots_N=slots_N)))


@_fault
def mapping_kept(rng: Random, incident: Incident) -> Incident:
    """Freed slots still map, some of them to slots that a table holds; or an allocation that was not written."""
    updates = [*incident.mapping_updates]
    last = updates[-1]
    if rng.random() < 0.5 and len(updates[0].mapped_N):
        updates[0] = replace(updates[0], mapped_N=np.zeros_like(updates[0].mapped_N))
    updates[-1] = replace(last, mapped_N=last.mapped_N + rng.choice((1, 40)))
    return replace(incident, mapping_updates=tuple(updates))


@_fault
def free_list_of_live_pages(rng: Random, incident: Incident) -> Incident:
    stock = incident.free_lists[-1]
    free_N = stock.pool.free_pages_N
    assert free_N is not None
    more = rng.choice((stock.live_pages_N[:1], np.array([0, stock.pool.num_pages]), free_N[:1]))
    pool = replace(stock.pool, free_pages_N=np.concatenate([free_N, more]))
    return replace(incident, free_lists=(*incident.free_lists[:-1], replace(stock, pool=pool)))


@_fault
def pages_lost(rng: Random, incident: Incident) -> Incident:
    """Pages that are on no list and that nobody has."""
    stock = incident.free_lists[-1]
    free_N = stock.pool.free_pages_N
    assert free_N is not None
    pool = replace(stock.pool, free_pages_N=free_N[rng.choice((1, 2)) :])
    return replace(incident, free_lists=(*incident.free_lists[:-1], replace(stock, pool=pool)))


@_fault
def tombstone_matched(rng: Random, incident: Incident) -> Incident:
    """A cache matched keys that have no SWA slot."""
    matches = []
    for match in incident.others:
        mapped_N = match.mapped_N.copy()
        mapped_N[: rng.choice((1, len(mapped_N)))] = 0
        matches.append(replace(match, mapped_N=mapped_N))
    return replace(incident, others=tuple(matches))


@_fault
def written_elsewhere(rng: Random, incident: Incident) -> Incident:
    """To the full slots, to the dummy, past the pool, or of another tensor's label."""
    *others, write = incident.kv_slots
    assert write.slots_N is not None
    end = write.pool.num_pages * write.pool.page_size
    slots = rng.choice((write.full_slots_N, np.zeros_like(write.slots_N), write.slots_N + end))
    label = rng.choice((None, write.expected_space, write.expected_space.other))
    return replace(incident, kv_slots=(*others, replace(write, slots_N=slots, slots_space=label)))


@_fault
def rows_apart(rng: Random, incident: Incident) -> Incident:
    return replace(incident, query_rows=tuple(replace(query, row_stride=128) for query in incident.query_rows))


@_fault
def draft_writes(rng: Random, incident: Incident) -> Incident:
    return replace(incident, kv_writes=(*incident.kv_writes, KVWrite("frozen_kv_target_view", "target", 2, 5)))


@_fault
def state_left_behind(rng: Random, incident: Incident) -> Incident:
    swap = incident.swaps[0]
    changes: tuple[dict[str, Any], ...] = (
        {"swa_state": None},
        {"moment": "exit", "before": ("b", None)},
        {"wanted_pool": "b"},
        {"read_pool_is_swa": False, "frozen_kv": False},
        {"graph_swa_tables": False},
    )
    return replace(incident, swaps=(replace(swap, **rng.choice(changes)), *incident.swaps))


@_fault
def drafts_own_pool(rng: Random, incident: Incident) -> Incident:
    """Healthy: its pages are full pages too, and none of the server's."""
    read = incident.reads[0]
    size = incident.free_lists[0].pool.page_size
    own = PoolView("draft-own", read.pool.space.__class__.FULL_PAGE, size, 1 << 10, np.arange(1, 900))
    return replace(incident, pools=(own, *incident.pools))


@_fault
def on_record(rng: Random, incident: Incident) -> Incident:
    name = rng.choice(("page_table_stays_in_pool", "slot_has_one_owner", "a_trap_of_tomorrow"))
    found = Violation(name, Severity.ERROR, "as it was told", layer_id=4, row=0, value=9, bound=5)
    return replace(incident, violations=(found,))
