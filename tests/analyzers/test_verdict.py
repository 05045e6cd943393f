"""The verdict line, word for word, and what follows it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from g4diag.analyzers.verdict import verdict_lines
from g4diag.model import Allocation, Incident, IndexSpace, LayerKind, Severity, Violation
from g4diag.traps.page_table_in_layer_space import TRAP as IN_SPACE
from g4diag.traps.page_table_stays_in_pool import TRAP as IN_POOL
from g4diag.traps.slot_inside_allocator import TRAP as IN_ALLOCATOR
from g4diag.verdict import verdict_line
from tests import samples, strategies


def test_the_frozen_kv_swa_bug_reads_like_address_sanitizer() -> None:
    violation = Violation(
        "page_table_stays_in_pool",
        Severity.ERROR,
        "",
        worker="draft",
        phase="draft_decode",
        path="eager",
        backend="TRTLLMHAAttnBackend",
        step=12,
        layer_id=4,
        layer_kind=LayerKind.SWA,
        window_left=128,
        row=0,
        rid="r7",
        column=61,
        value=189,
        bound=154,
    )
    assert verdict_line(violation) == (
        "ERROR: g4diag: page_table_stays_in_pool: draft_decode handed layer 4 (swa, window 128) page 189 at "
        "row 0 column 61: 36 past the last of 154 pages (TRTLLMHAAttnBackend, eager, step 12, request r7)"
    )


def test_whole_verdict_of_the_frozen_kv_swa_bug() -> None:
    first, *rest = verdict_lines(samples.faulty_incident())
    assert first.startswith("ERROR: g4diag: page_table_stays_in_pool: draft_decode handed layer 4 (swa, ")
    assert rest == [
        "  derived: first cause: frozen_kv_target_view (enter): it will read target:SWAKVPool, but its SWA state is of "
        "no pool; then page_table_stays_in_pool, since tables are built for the pool of its SWA state",
        "  measured: nearest meaning: 188 as a full page is this request's own page for positions 3840..3903; "
        "its SWA page is 100",
        "  measured: 3 of 3 live table entries of this read are outside the bound",
        "  measured: the backend handed its full page table; the swa pool is addressed in SWA pages",
        "  measured: page_table_in_layer_space is broken too, in 1 view",
    ]


def test_wrong_but_in_range_says_what_belongs_there() -> None:
    read = samples.healthy_read()
    read.page_table_BP[0, samples.LAST] = 7
    (violation,) = IN_SPACE.judge(read)
    assert "page 7 at row 0 column 62: inside the bound 154, so nothing faults, but SWA page 102 belongs there" in (
        verdict_line(violation)
    )


def test_agreeing_values_from_the_wrong_table_are_a_warning() -> None:
    line = verdict_lines(samples.incident(samples.healthy_read(table_space=IndexSpace.FULL_PAGE)))[0]
    assert line.startswith("WARNING: ") and "the right page for now, from the wrong table" in line


@pytest.mark.parametrize(("value", "says"), [(-1, "first legal 0, 1 before it"), (154, "1 past the last of 154 pages")])
def test_distance(value: int, says: str) -> None:
    read = samples.healthy_read()
    read.page_table_BP[0, samples.LAST] = value
    (violation,) = IN_POOL.judge(read)
    assert says in verdict_line(violation)


def test_allocation_and_swap_have_no_layer() -> None:
    allocation = Allocation("alloc_extend", samples.swa_pool(), np.array([154 * 64]))
    assert [verdict_line(v) for v in IN_ALLOCATOR.judge(allocation)] == [
        "ERROR: g4diag: slot_inside_allocator: alloc_extend returned slot 9856; legal slots are 64 .. 9855: "
        "1 past the end"
    ]
    assert verdict_lines(samples.incident(swaps=(samples.stale_swap(),))) == [
        "ERROR: g4diag: swa_state_follows_pool: frozen_kv_target_view (enter): it will read target:SWAKVPool, "
        "but its SWA state is of no pool (TRTLLMHAAttnBackend)"
    ]


def test_a_clamped_table_is_said_to_be_clamped() -> None:
    clamped = samples.faulty_read(is_clamped=True)
    np.minimum(clamped.page_table_BP, 153, out=clamped.page_table_BP)
    lines = verdict_lines(samples.incident(clamped))
    assert "page 153" in lines[0] and any("clamped" in line for line in lines[1:])


def test_out_of_range_comes_before_wrong_but_in_range() -> None:
    silent = samples.healthy_read(step=1)
    silent.page_table_BP[0, samples.LAST] = 7
    assert "past the last of" in verdict_lines(samples.incident(silent, samples.faulty_read()))[0]


def test_clean_and_empty() -> None:
    assert verdict_lines(samples.incident(samples.healthy_read()))[0].startswith("HEALTHY: g4diag: 3 entries, ")
    assert verdict_lines(samples.incident()) == [
        "INCONCLUSIVE: g4diag: this file holds no page tables, allocations or pool swaps, so nothing could be judged"
    ]


@settings(max_examples=60, deadline=None)
@given(strategies.incidents)
def test_any_incident_has_a_verdict(incident: Incident) -> None:
    assert verdict_lines(incident)[0].split(": ")[0] in {"ERROR", "WARNING", "LIKELY", "HEALTHY", "INCONCLUSIVE"}
    for violation in incident.violations:
        assert verdict_line(violation).startswith(f"{violation.severity.upper()}: g4diag: ")
