"""One call from incident to outcome; a broken trap or analyzer rules out a clean one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from g4diag import analyzers
from g4diag.analyzers import Outcome, inspect_file, inspect_incident, judging
from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import judge
from g4diag.analyzers.rejudge import ANALYZER as REJUDGE
from g4diag.discover import Contribution, contributions
from g4diag.model import AttentionRead, FreeList, Incident, KVSlots, LayerKind, Severity, Violation
from g4diag.traps.contract import Trap
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples, strategies


def test_outcomes() -> None:
    assert inspect_incident(samples.faulty_incident(), "x").outcome is Outcome.ERROR
    assert inspect_incident(samples.incident(samples.healthy_read()), "x").outcome is Outcome.HEALTHY
    assert inspect_incident(samples.incident(), "x").outcome is Outcome.INCONCLUSIVE


def test_a_read_without_live_entries_is_nothing_to_judge() -> None:
    read = samples.faulty_read(seq_lens_B=samples.healthy_read().seq_lens_B * 0)
    assert inspect_incident(samples.incident(read), "x").outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("found", contributions("g4diag.analyzers", "ANALYZER"), ids=lambda found: found.name)
def test_every_analyzer_keeps_the_contract(found: Contribution) -> None:
    assert found.error is None and isinstance(found.value, Analyzer)
    assert found.value.name == found.name and found.value.question.endswith("?")
    assert all(finding.subject == found.name for finding in found.value.analyze(samples.faulty_incident()))


def test_a_raising_trap_leaves_no_clean_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: AttentionRead) -> list[None]:
        raise ZeroDivisionError("oops")

    trap = Trap("broken", "", "", "", ("offline",), AttentionRead, broken)  # type: ignore[arg-type]
    rows = [Contribution("broken", "x", trap), Contribution("gone", "y", error="ImportError: z")]
    monkeypatch.setattr(judging, "contributions", lambda *_: rows)
    inspection = inspect_incident(samples.incident(samples.healthy_read()), "x")
    assert inspection.outcome is Outcome.INCONCLUSIVE
    assert any("ZeroDivisionError: oops" in finding.text for finding in inspection.of("rejudge"))


def test_a_broken_analyzer_is_said_and_hides_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Contribution("gone", "y", error="ImportError: z")]
    monkeypatch.setattr(analyzers, "contributions", lambda *_: rows)
    assert inspect_incident(samples.incident(samples.healthy_read()), "x").outcome is Outcome.INCONCLUSIVE
    assert inspect_incident(samples.faulty_incident(), "x").outcome is Outcome.ERROR


def test_recorded_violations_that_no_longer_hold_are_said() -> None:
    recorded = tuple(TRAP.judge(samples.faulty_read()))
    findings = list(REJUDGE.analyze(samples.incident(samples.healthy_read(), violations=recorded)))
    assert findings[-1].data == {"trap": "page_table_stays_in_pool", "disagrees": "cleared", "judged": 1}


def test_what_a_claim_needs_and_the_file_lacks_is_neither_broken_nor_not() -> None:
    read = samples.healthy_read(mapping=None, full_page_table_BP=None, table_space=None)
    rows = {row.name: row for row in judge(samples.incident(read)).rows}
    blind = {name: row.needs for name, row in rows.items() if row.needs}
    pages = "the requests' pages in full space and the full-to-SWA mapping"
    assert blind == {
        "mapping_is_what_was_handed_out": pages,
        "page_in_window_is_mapped": pages,
        "page_size_is_the_pools": "the page size of the backend or the allocator",
        "page_table_in_layer_space": pages,
        "request_row_is_of_its_request": "the request rows that the batch was built with",
        "table_is_of_this_step": "the batch's own lengths",
        "window_is_the_models": "the model's own window",
    }
    assert not any(rows[name].judged for name in blind) and rows["page_table_stays_in_pool"].judged == 1
    found = {f.data["trap"]: f.text for f in REJUDGE.analyze(samples.incident(read)) if "claim" in f.data}
    assert found["table_is_of_this_step"].endswith("could not be judged in this file: needs the batch's own lengths")


# Claims that need what was written down before the read.
_WRITTEN_DOWN = (
    *("mapping_is_what_was_handed_out", "request_row_is_of_its_request"),
    *("window_is_the_models", "page_size_is_the_pools"),
)


@pytest.mark.parametrize(
    ("name", "judged", "blind"),
    [
        (
            "legacy-page-table",
            {"page_table_stays_in_pool", "table_is_wide_enough"},
            {"page_in_window_is_mapped", "page_table_in_layer_space", "table_is_of_this_step", *_WRITTEN_DOWN},
        ),
        ("legacy-allocator", {"slot_inside_allocator"}, {"page_is_handed_out_whole", "slot_has_one_owner"}),
        ("legacy-allocator-last-page", {"slot_inside_allocator"}, {"page_is_handed_out_whole", "slot_has_one_owner"}),
    ],
)
def test_what_the_forks_own_dumps_can_show(name: str, judged: set[str], blind: set[str]) -> None:
    found = inspect_file(Path(__file__).parents[2] / "dumps" / f"{name}.pt").of("rejudge")
    rows = [finding.data for finding in found if "claim" in finding.data]
    assert {row["trap"] for row in rows if row["judged"]} == judged
    assert {row["trap"] for row in rows if row["needs"]} == blind


def test_a_free_list_or_a_write_that_holds_nothing_needs_it() -> None:
    bare = replace(samples.full_pool(), free_pages_N=None)
    stock = FreeList(bare, live_pages_N=np.array([1]))
    write = KVSlots("target", "extend", "eager", "x", 1, LayerKind.SWA, samples.swa_pool(), None, tokens=3)
    rows = {row.name: row.needs for row in judge(Incident("x", free_lists=(stock,), kv_slots=(write,))).rows}
    assert rows["free_list_is_free"] == "the free list"
    assert rows["kv_slots_in_layer_space"] == "the slots written and those of the batch"


def test_a_view_that_lacks_something_is_not_counted_beside_one_that_does_not() -> None:
    whole = samples.healthy_read(batch_lens_B=samples.healthy_read().seq_lens_B.astype("int64"))
    rows = {row.name: row for row in judge(samples.incident(samples.healthy_read(), whole)).rows}
    row = rows["table_is_of_this_step"]
    assert (row.views, row.judged, row.needs, row.violations) == (2, 1, "", 0)
    assert not rows["page_in_window_is_mapped"].needs and rows["page_in_window_is_mapped"].judged == 2


def test_a_claim_that_is_broken_by_what_is_there_needs_nothing() -> None:
    read = samples.faulty_read(mapping=None, full_page_table_BP=None)
    rows = {row.name: row for row in judge(samples.incident(read)).rows}
    assert rows["page_table_in_layer_space"].violations == 1 == rows["page_table_in_layer_space"].judged


def test_a_recorded_violation_is_not_cleared_by_a_file_that_cannot_show_it() -> None:
    recorded = (Violation("table_is_of_this_step", Severity.ERROR, "x"),)
    findings = list(REJUDGE.analyze(samples.incident(samples.healthy_read(), violations=recorded)))
    assert findings[-1].data == {"trap": "table_is_of_this_step", "disagrees": "not judged", "judged": 0}


@settings(max_examples=40, deadline=None)
@given(strategies.incidents)
def test_any_incident_can_be_inspected(incident: Incident) -> None:
    inspect_incident(incident, "x")
