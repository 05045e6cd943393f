"""A mapping of millions of slots is written, whole where runs hold it and around the evidence where they do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4diag.analyzers import inspect_file
from g4diag.dump import runs, schema
from g4diag.dump.reader import read_dump
from g4diag.dump.runs import MAX_SLOTS, NOT_KEPT, expanded, runs_of
from g4diag.dump.writer import MAX_DUMP_BYTES, write_dump
from g4diag.errors import UnsafeInputError
from g4diag.model import IndexMapping
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples


def large(slots: int, shuffled: bool) -> IndexMapping:
    """The samples' mapping, then as many more slots; shuffled: each by itself, as pages of one token are."""
    small_M = samples.mapping().full_to_swa_M[:-1]
    more_M = np.arange(slots - len(small_M)) + int(small_M.max()) + samples.PAGE
    if shuffled:
        np.random.default_rng(0).shuffle(more_M)
    return IndexMapping(np.concatenate([small_M, more_M, [-1]]), samples.PAGE)


def incident_of(mapping: IndexMapping, **changes: Any) -> Any:
    read = samples.faulty_read(mapping=mapping)
    made = samples.incident(read, *(replace(read, step=step) for step in range(20)), **changes)
    return replace(made, mapping=mapping, violations=tuple(TRAP.judge(read)))


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=60))
def test_runs_lose_nothing(entries: list[int]) -> None:
    entries_M = np.array(entries)
    assert (expanded(runs_of(entries_M), len(entries)) == entries_M).all()


@pytest.mark.parametrize("slots", [1_000_000, 4_200_000])
def test_a_pool_of_millions_is_written_whole(slots: int, tmp_path: Path) -> None:
    mapping = large(slots, shuffled=False)
    path = write_dump(incident_of(mapping), tmp_path / "x.pt")
    back = read_dump(path)
    assert path.stat().st_size < 1 << 20 and back.mapping is not None and len(back.reads) == 21
    assert (back.mapping.full_to_swa_M == mapping.full_to_swa_M).all() and back.mapping.is_whole
    assert back.reads[0].mapping is not None and back.reads[0].mapping.full_to_swa_M is back.mapping.full_to_swa_M
    assert inspect_file(path).outcome.exit_code == 1 and runs._last == []


def test_one_that_runs_do_not_hold_is_kept_around_the_evidence(tmp_path: Path) -> None:
    mapping = large(5_000_000, shuffled=True)
    free = replace(samples.full_pool(), num_pages=5_000_000, free_pages_N=np.arange(1, 4_900_000)[::-1].copy())
    incident = incident_of(mapping, pools=(free,))
    path = write_dump(incident, tmp_path / "x.pt")
    back = read_dump(path)
    assert path.stat().st_size <= MAX_DUMP_BYTES and back.mapping is not None and back.reads
    kept_M = back.mapping.full_to_swa_M[:-1] != NOT_KEPT
    assert 0 < kept_M.sum() < 5_000_000 // 10 and not back.mapping.is_whole
    assert (back.mapping.full_to_swa_M[:-1][kept_M] == mapping.full_to_swa_M[:-1][kept_M]).all()
    named_BP = back.reads[0].full_page_table_BP
    assert named_BP is not None and (back.mapping.swa_pages(named_BP) == mapping.swa_pages(named_BP)).all()
    said = " ".join(text for _, text in back.notes)
    assert "kept where this dump names" in said and "free lists are left out" in said
    inspection = inspect_file(path)
    assert inspection.outcome.exit_code == 1 and not inspection.of("mapping_map")
    assert not any("another number in SWA space" in finding.text for finding in inspection.findings)


def test_what_needs_no_runs_is_written_as_before() -> None:
    assert schema.to_document(samples.faulty_incident())["version"] == 2
    assert schema.to_document(incident_of(large(1_000_000, shuffled=False)))["version"] == 3


@pytest.mark.parametrize(
    "lie",
    [
        {"slots": MAX_SLOTS + 1},
        {"slots": 0},
        {"slots": None},
        {"slots": 5},
        {"runs_R3": np.array([[1, 0, 0]])},
        {"runs_R3": np.array([[0, 0, 2]])},
        {"runs_R3": np.array([[0, 0, 0], [0, 0, 0]])},
        {"runs_R3": np.array([[0, 1 << 40, 0]])},
        {"runs_R3": np.array([[0, 0]])},
        {"runs_R3": np.zeros((0, 3), np.int64)},
        {"runs_R3": np.zeros(3, np.int64)},
        {"runs_R3": "x"},
    ],
)
def test_lies_are_named(lie: dict[str, Any]) -> None:
    document = schema.to_document(incident_of(large(1_000_000, shuffled=False)))
    schema.from_document(document)
    document["mapping"] = document["mapping"] | lie
    with pytest.raises(UnsafeInputError, match=r"mapping.*wanted .* found"):
        schema.from_document(document)


def test_many_large_mappings_are_refused_by_their_sum() -> None:
    document = schema.to_document(samples.incident(*(samples.faulty_read() for _ in range(9))))
    for read in document["reads"]:
        read["mapping"] = {"slots": MAX_SLOTS // 8, "runs_R3": np.array([[0, 0, 0]]), "page_size": 64}
    with pytest.raises(UnsafeInputError, match="slots in all"):
        schema.from_document(document)
