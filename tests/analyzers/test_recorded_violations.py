"""Violations that a mark or a line of a log tells: read in full, and placed where the recorder's pools leave one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from g4diag.analyzers import inspect_files, inspect_incident
from g4diag.analyzers.on_record import ANALYZER
from g4diag.analyzers.recorded_violations import recorded, told
from g4diag.model import Grade, Incident, IndexSpace, LayerKind, LogEvent, Outcome, RingRecord, Violation
from g4diag.stack.live.log_line import LINES, json_line, log_line, short
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples
from tests.cli.test_inspect import DUMPS

# 154 SWA pages and 1025 full ones of 64 tokens, the dummy pages among them, as in `samples`.
STEP = RingRecord(1, 1, "step", step=12, full_size=1024 * 64, full_free=512 * 64, swa_size=153 * 64, swa_free=20 * 64)


def violation() -> Violation:
    return next(iter(TRAP.judge(samples.faulty_read())))


def marked(*steps: RingRecord, **changes: object) -> Incident:
    text = short(replace(violation(), **changes), 1)  # type: ignore[arg-type]
    return Incident("g4diag-ring", ring=(*steps, RingRecord(2, 2, "violation", text=text)))


def logged(text: str) -> Incident:
    return Incident("server-log", log=(LogEvent("violation", text, "server.log:1"),))


@pytest.mark.parametrize("form", LINES)
def test_a_line_of_a_log_gives_the_violation_back(form: str) -> None:
    (found,) = recorded(logged(f"[2026-11-22 10:00:03 TP0] {LINES[form](violation(), 1, Path('/x/live.pt'))}"))
    assert found == replace(violation(), step=None), "a line names no step"


@pytest.mark.parametrize(("write", "bound"), [(log_line, "bound="), (json_line, '"bound": ')])
def test_a_line_that_was_cut_loses_its_last_word(write: Callable[..., str], bound: str) -> None:
    line = write(replace(violation(), rid="r" * 90), 1, None)
    cut = line[: line.index(bound) + len(bound) + 1].rjust(400)
    (found,) = told(logged(cut))
    assert found.bound is None and found.value == 188


def test_a_mark_is_placed_by_the_recorders_pools() -> None:
    (as_told,), (placed,) = told(marked(STEP)), recorded(marked(STEP))
    assert as_told.expected_space is None and as_told.layer_kind is None and as_told.step == 12
    assert (placed.expected_space, placed.layer_kind) == (IndexSpace.SWA_PAGE, LayerKind.SWA)
    assert placed.value_space is IndexSpace.FULL_PAGE
    inspection = inspect_incident(marked(STEP), "x")
    assert inspection.outcome is Outcome.LIKELY and inspection.of("signature")[0].grade is Grade.DERIVED
    assert inspection.of("known_issues")[0].data["id"] == "trtllm-mha-swa"
    assert inspection.of("known_issues")[0].grade is Grade.GUESS, "a mark does not name the backend"
    assert inspection.of("next_command")[0].text == "g4diag repro trtllm-mha-swa"


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (None, {}),
        (replace(STEP, swa_size=150 * 64), {}),
        # Twice as many full pages: the bound ends the one pool in pages of 64, or the other in pages of 128.
        (replace(STEP, full_size=200 * 64, full_free=0, swa_size=100 * 64, swa_free=128), {"bound": 101}),
        (STEP, {"bound": None}),
    ],
)
def test_a_mark_that_fits_no_one_pool_stays_as_told(step: RingRecord | None, changes: dict[str, object]) -> None:
    incident = marked(*([step] if step else []), **changes)
    assert recorded(incident) == told(incident) and len(told(incident)) == 1
    (finding,) = ANALYZER.analyze(incident)
    assert finding.grade is Grade.MEASURED and not finding.is_defect
    assert not inspect_incident(incident, "x").of("known_issues"), "nothing that the mark does not say"


@pytest.mark.parametrize("value", [1025, 192, 153])
def test_a_value_that_may_be_something_else_is_no_full_page(value: int) -> None:
    """Past both pools, the first slot of a page, inside the SWA pool."""
    (placed,) = recorded(marked(STEP, value=value))
    assert placed.expected_space is IndexSpace.SWA_PAGE and placed.value_space is None


@pytest.mark.parametrize(
    "text", ["", "g4diag violation", "g4diag violation trap= layer=4", "x" * 400, "page_table error seen=x layer=1"]
)
def test_what_is_no_record_of_ours_tells_nothing(text: str) -> None:
    assert not told(logged(text)) and not told(Incident("x", ring=(RingRecord(1, 1, "violation", text=text),)))


def test_a_line_and_a_mark_of_the_same_are_one() -> None:
    both = replace(marked(STEP), log=logged(log_line(violation(), 1, None)).log)
    assert [found.backend for found in told(both)] == [violation().backend]


def test_where_a_view_can_be_judged_the_record_is_not_told_again() -> None:
    assert not list(ANALYZER.analyze(replace(samples.faulty_incident(), ring=marked(STEP).ring)))


def test_what_an_h100_left() -> None:
    inspection = inspect_files([DUMPS / "h100-postmortem.json"])
    measured, derived = inspection.of("on_record")
    said = "draft_decode handed layer 4 page 502 at row 7 column 60: 34 past the last of 469 pages (step 18)"
    assert said in measured.text and measured.grade is Grade.MEASURED
    assert "the end of the swa pool" in derived.text and derived.grade is Grade.DERIVED
    assert inspection.outcome is Outcome.LIKELY
    assert [issue.data["id"] for issue in inspection.of("known_issues")] == ["trtllm-mha-swa"]


def test_a_ring_of_nothing_but_marks_is_quickly_read() -> None:
    text = "page_table_stays_in_pool error seen=1 draft draft_decode layer=4 row={} column=60 value=502 bound=469"
    ring = tuple(RingRecord(n, n, "violation", text=text.format(n)) for n in range(20_000))
    start = time.process_time()
    assert len(told(Incident("g4diag-ring", ring=(STEP, *ring)))) == 64
    assert time.process_time() - start < 1
