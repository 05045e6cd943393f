"""Places where the device checks something, and what is said of what it found there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from g4diag.model import AttentionRead, IndexSpace, KVSlots, LayerKind, PoolView, RowOwners, Severity, Violation
from g4diag.stack.kernels.claims import (
    LENGTHS,
    REMAPPED,
    ROWS,
    SLOTS,
    SLOTS_REMAPPED,
    TABLE,
    UNMAPPED,
    Verdict,
)
from g4diag.stack.probes.written_slots import Written
from g4diag.traps.reads import violation_in

OUTSIDE, WRONG = "page_table_stays_in_pool", "page_table_in_layer_space"
# Claims that are judged on the host where Python runs, and on the device inside CUDA graphs.
TRAP_OF = {
    UNMAPPED: "page_in_window_is_mapped",
    REMAPPED: "mapping_is_what_was_handed_out",
    LENGTHS: "table_is_of_this_step",
    ROWS: "request_row_is_of_its_request",
    SLOTS: "kv_slots_in_layer_space",
    SLOTS_REMAPPED: "kv_slots_are_those_handed_out",
}
_SAID = "(device check)"


@dataclass
class Site:
    """One place a table is checked. tensors: the latest (table, lengths, request rows) seen there, on the device.
    is_compared: ids are held against those of the request table, not the bound alone. keys_B: int[B], the lengths that
    the batch has."""

    worker: str
    phase: str
    path: str
    backend: Any
    layer: Any
    kind: LayerKind
    window: int
    queries: int
    pool: PoolView
    space: IndexSpace | None
    tensors: tuple[Any, Any, Any]
    indptr_B1: Any = None
    is_clipped: bool = False
    is_bound_only: bool = False
    is_compared: bool = True
    keys_B: Any = None

    @property
    def layer_id(self) -> int:
        """Its number in the model."""
        return int(self.layer.layer_id)


@dataclass(frozen=True)
class WriteSite:
    """One place where K/V is written. view: of the write, without its values. written: with them, on the device."""

    view: KVSlots
    written: Written

    @property
    def worker(self) -> str:
        """ "target" or "draft"."""
        return self.view.worker


def read_of(site: Site, step: int, **arrays: Any) -> AttentionRead:
    """The view of a site. arrays: its tables."""
    return AttentionRead(
        step=step,
        worker=site.worker,
        phase=site.phase,
        path=site.path,
        backend=type(site.backend).__name__,
        layer_id=site.layer_id,
        layer_kind=site.kind,
        window_left=site.window,
        pool=site.pool,
        table_space=site.space,
        q_len=site.queries,
        **arrays,
    )


def remembered_read(site: Site, verdict: Verdict, rid: str | None) -> AttentionRead:
    """The read as far as the verdict alone tells: the bad entry in its place, every other entry the dummy page, and
    other rows empty. All that is left of it when the context is dead."""
    table = np.zeros((verdict.row + 1, max(verdict.column, 0) + 1), dtype=np.int32)
    if verdict.column >= 0:
        table[verdict.row, verdict.column] = verdict.value
    lengths = np.zeros(verdict.row + 1, dtype=np.int32)
    lengths[verdict.row] = verdict.seq_len
    rids = ("",) * verdict.row + (rid or f"row{verdict.req_row}",)
    return read_of(site, verdict.step, page_table_BP=table, seq_lens_B=lengths, rids=rids)


def rows_read(site: Site, step: int, owners: RowOwners) -> AttentionRead:
    """A batch's rows alone, with no key of a table."""
    rows = len(owners.rids)
    return read_of(
        site,
        step,
        page_table_BP=np.zeros((rows, 1), dtype=np.int32),
        seq_lens_B=np.zeros(rows, dtype=np.int32),
        rids=owners.rids,
        req_rows_B=owners.rows_B,
        row_owners=owners,
    )


def trap_of(claim: int, verdict: Verdict) -> str:
    """The trap that a verdict is of."""
    if claim != TABLE:
        return TRAP_OF[claim]
    return WRONG if 0 <= verdict.value < verdict.bound else OUTSIDE


def violation_of(claim: int, site: Site, verdict: Verdict, read: AttentionRead, rid: str | None) -> Violation:
    """What a captured or eager check of a table found."""
    trap, said = trap_of(claim, verdict), _SENTENCES[claim](site, verdict)
    place: dict[str, Any] = {}
    if claim == TABLE:
        place = {
            "column": verdict.column,
            "value": verdict.value,
            "expected": verdict.expected if site.is_compared else None,
            "bound": verdict.bound,
            "value_space": site.space,
            "expected_space": site.pool.space,
        }
    elif claim in (UNMAPPED, REMAPPED):
        place = {"column": verdict.column, "expected_space": site.pool.space}
    count = verdict.outside if trap == OUTSIDE else verdict.wrong
    placed = violation_in(
        read, trap, Severity.ERROR, f"{said} {_SAID}", row=verdict.row, count=count, checked=0, **place
    )
    # The verdict's own request: the copied table may be a later batch's.
    return replace(placed, rid=rid or f"row{verdict.req_row}")


def _table(site: Site, verdict: Verdict) -> str:
    unit = site.pool.space.unit
    if not 0 <= verdict.value < verdict.bound:
        return f"{unit} {verdict.value} is outside the {site.pool.name} pool of {verdict.bound} {unit}s"
    return f"{unit} {verdict.value} is not this request's: {site.pool.space} {verdict.expected} belongs there"


def _unmapped(site: Site, verdict: Verdict) -> str:
    unit = site.pool.space.unit
    return (
        f"full {unit} {verdict.expected} is in the window and has no SWA {unit}: {unit} 0, the dummy, is read in its "
        "place"
    )


def _remapped(site: Site, verdict: Verdict) -> str:
    unit, own = site.pool.space.unit, verdict.expected
    right = f"SWA {unit} {own} was handed out with it" if own > 0 else f"no SWA {unit} of now was handed out with it"
    whose = f"{site.worker} layer {site.layer_id} reads row {verdict.row} column {verdict.column}"
    return f"{whose}, whose full {unit} maps to SWA {unit} {verdict.value}; {right}"


def _lengths(site: Site, verdict: Verdict) -> str:
    return f"row {verdict.row} is read with {verdict.value} keys, the batch has {verdict.expected}"


def _rows(site: Site, verdict: Verdict) -> str:
    return (
        f"request row {verdict.value} is read for row {verdict.row} of the batch, whose request has row "
        f"{verdict.expected}"
    )


_SENTENCES = {TABLE: _table, UNMAPPED: _unmapped, REMAPPED: _remapped, LENGTHS: _lengths, ROWS: _rows}


def write_violation(claim: int, site: WriteSite, verdict: Verdict) -> Violation:
    """What a captured check of a write found."""
    view, token = site.view, verdict.column
    # Blocks of tokens are judged side by side, and the one that is first to say so need not hold the first wrong one.
    where = f"layer {view.layer_id} writes K/V of {view.tokens} tokens, a wrong one at token {token}:"
    if claim == SLOTS_REMAPPED:
        found, own = (f"SWA slot {slot}" if slot > 0 else "nothing" for slot in (verdict.value, verdict.expected))
        said = f"{where} its full slot maps to {found}, and {own} was handed out with it"
    elif not 0 <= verdict.value < verdict.bound:
        said = f"{where} slot {verdict.value} is outside the {view.pool.name} pool of {verdict.bound} slots"
    else:
        said = f"{where} slot {verdict.value}, where {view.expected_space} {verdict.expected} belongs"
    return Violation(
        trap=TRAP_OF[claim],
        severity=Severity.ERROR,
        summary=f"{said} {_SAID}",
        worker=view.worker,
        phase=view.phase,
        path=view.path,
        backend=view.backend,
        step=verdict.step,
        layer_id=view.layer_id,
        layer_kind=view.layer_kind,
        column=token,
        value=None if claim == SLOTS_REMAPPED else verdict.value,
        expected=None if claim == SLOTS_REMAPPED else verdict.expected,
        bound=None if claim == SLOTS_REMAPPED else verdict.bound,
        value_space=None,
        expected_space=view.expected_space,
        count=max(verdict.outside, verdict.wrong),
        checked=0,
    )
