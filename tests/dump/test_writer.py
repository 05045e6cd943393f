"""What is written is read back equal, and is whole or not there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from g4diag.analyzers import inspect_incident
from g4diag.dump import writer
from g4diag.dump.reader import read_dump
from g4diag.dump.writer import write_dump
from g4diag.errors import G4DiagError
from g4diag.model import Incident, Outcome, Violation
from g4diag.traps.page_table_stays_in_pool import TRAP
from tests import samples, strategies


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(incident=strategies.incidents)
def test_round_trip(incident: Incident, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("dump") / "x.pt"
    kept = replace(incident, reads=tuple(map(writer._without_foreign_memory, incident.reads)))
    assert samples.same(read_dump(write_dump(incident, path)), kept)


def test_what_no_query_reads_and_is_no_page_is_not_kept(tmp_path: Path) -> None:
    """It may be anything that was in that memory before. What a query reads is evidence, and stays."""
    read = samples.healthy_read()
    read.page_table_BP[0, samples.LAST + 1] = 0x3F8CCCCD  # half of somebody's K/V
    read.page_table_BP[0, samples.LAST] = samples.SWA_PAGES + 40
    (kept,) = read_dump(write_dump(samples.incident(read), tmp_path / "x.pt")).reads
    assert kept.page_table_BP[0, samples.LAST + 1] == writer.FOREIGN
    assert kept.page_table_BP[0, samples.LAST] == samples.SWA_PAGES + 40
    assert (kept.page_table_BP[0, : samples.LAST] == read.page_table_BP[0, : samples.LAST]).all()


@settings(max_examples=20, deadline=None)
@given(value=st.recursive(strategies.plain_values | st.binary() | st.complex_numbers(), st.lists))
def test_odd_context_does_not_stop_the_writer(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("dump") / "x.pt"
    read_dump(write_dump(samples.incident(context={"odd": value}), path))


def test_same_incident_same_bytes(tmp_path: Path) -> None:
    first, second = (write_dump(samples.faulty_incident(), tmp_path / name) for name in ("a.pt", "b.pt"))
    assert first.read_bytes() == second.read_bytes()


def test_torch_opens_it_with_weights_only(tmp_path: Path) -> None:
    loaded = torch.load(write_dump(samples.faulty_incident(), tmp_path / "x.pt"), weights_only=True)
    assert list(loaded)[:2] == ["format", "version"] and loaded["format"] == "g4diag-dump" and loaded["version"] == 2
    last = samples.LAST + 1
    assert (
        loaded["reads"][1]["page_table_BP"][:, :last].tolist() == samples.faulty_read().page_table_BP[:, :last].tolist()
    )


def test_shared_mapping_is_stored_once(tmp_path: Path) -> None:
    one = write_dump(samples.incident(samples.healthy_read()), tmp_path / "one.pt").stat().st_size
    many = samples.incident(*(samples.healthy_read(step=i) for i in range(10)))
    assert write_dump(many, tmp_path / "ten.pt").stat().st_size < one + 10 * 4096
    back = read_dump(tmp_path / "ten.pt")
    assert back.reads[0].mapping and back.mapping
    assert back.reads[0].mapping.full_to_swa_M is back.mapping.full_to_swa_M, "and widened once"


def test_too_large_keeps_the_violating_reads(tmp_path: Path) -> None:
    reads = [samples.healthy_read(step=step) for step in range(40)] + [samples.faulty_read(step=40)]
    incident = samples.incident(*reads, violations=tuple(TRAP.judge(reads[-1])))
    room = write_dump(samples.incident(*reads[:12]), tmp_path / "small.pt").stat().st_size
    back = read_dump(write_dump(incident, tmp_path / "x.pt", max_bytes=room))
    assert 0 < len(back.reads) < 41 and back.reads[-1].step == 40
    assert [read.step for read in back.reads] == sorted(read.step for read in back.reads)
    assert (tmp_path / "x.pt").stat().st_size <= room
    assert f"{41 - len(back.reads)} reads were left out" in back.notes[-1][1]


def test_no_room_at_all_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(G4DiagError, match="wanted at most 100 bytes"):
        write_dump(samples.faulty_incident(), tmp_path / "x.pt", max_bytes=100)
    assert list(tmp_path.iterdir()) == []


def test_more_violations_than_the_reader_takes(tmp_path: Path) -> None:
    violation = next(iter(TRAP.judge(samples.faulty_read())))
    many: tuple[Violation, ...] = (violation,) * 2000
    assert len(read_dump(write_dump(samples.incident(violations=many), tmp_path / "x.pt")).violations) == 1024


def test_malformed_view_is_not_written(tmp_path: Path) -> None:
    bad = samples.healthy_read(seq_lens_B=samples.full_pages())
    with pytest.raises(G4DiagError, match=r"reads\[0\].seq_lens_B: wanted"):
        write_dump(samples.incident(bad), tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_failed_rename_leaves_the_old_file_and_no_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dump(samples.incident(samples.healthy_read()), tmp_path / "x.pt")
    before = path.read_bytes()

    def no_rename(*_: object) -> None:
        raise OSError("disk says no")

    monkeypatch.setattr(os, "replace", no_rename)
    with pytest.raises(OSError, match="disk says no"):
        writer.write_dump(samples.faulty_incident(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"] and path.read_bytes() == before


def test_a_wide_table_of_short_rows_keeps_its_read_without_the_columns_that_none_reaches(tmp_path: Path) -> None:
    rows, columns = 64, 4096
    rng = np.random.default_rng(0)
    table_BP = rng.integers(1, samples.SWA_PAGES, (rows, columns)).astype(np.int32)
    table_BP[3, 1] = samples.SWA_PAGES + 7
    lens_B = np.full(rows, 2 * samples.PAGE, np.int32)
    read = samples.faulty_read(
        page_table_BP=table_BP, seq_lens_B=lens_B, rids=(), req_rows_B=None, full_page_table_BP=None, mapping=None
    )
    written = read_dump(write_dump(Incident("g4diag", reads=(read,)), tmp_path / "x.pt", max_bytes=1 << 17))
    (kept,) = written.reads
    assert kept.page_table_BP.shape == (rows, 2) and (kept.page_table_BP == table_BP[:, :2]).all()
    assert any("columns of a table that no row's keys reach are left out" in text for _, text in written.notes)
    assert inspect_incident(written, "x").outcome is Outcome.ERROR
