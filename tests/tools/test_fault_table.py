"""TRIAGE's table of faults is of its data, and each row has something that found it."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from tests.injected.truth import truths
from tools import fault_table


@functools.cache
def rows() -> tuple[fault_table.Row, ...]:
    return tuple(fault_table.rows())


def test_the_table_is_of_the_data() -> None:
    text = fault_table.DOCUMENT.read_text(encoding="utf-8")
    assert fault_table.with_table(text, rows()) == text, "run tools/fault_table.py"


def test_every_fault_that_does_harm_has_a_row_and_every_row_something_that_found_it() -> None:
    faults = {row.fault.partition(" (")[0] for row in rows()}
    assert {row.fault for row in truths() if not row.harmless} <= faults and len(rows()) >= 50
    assert not [row for row in rows() if not row.found or row.named == "no"]
    assert {row.graph == fault_table.NOT_DRIVEN for row in rows()} == {True, False}, "some are driven in a graph"


def test_what_ran_on_a_gpu_is_in_the_row_of_its_fault_and_release() -> None:
    of_fault = [row for row in rows() if row.fault == "negative-at-page-start"]
    assert {row.release: row.gpu == fault_table.NOT_RUN for row in of_fault} == {"0.5.13": True, "0.5.23": False}
    ran = {fault for fault, _ in fault_table.in_graphs()}
    told = {row.fault for row in rows() if row.gpu != fault_table.NOT_RUN}
    assert ran == told and len(ran) >= 13, "each has a row"


def test_a_row_that_nothing_found_is_told() -> None:
    lost = replace(rows()[0], eager="no", gpu="no", offline="no")
    assert not lost.found and rows()[0].found


def test_marks_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted one"):
        fault_table.with_table("no marks", rows())
