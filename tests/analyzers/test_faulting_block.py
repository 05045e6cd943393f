"""The core dump's block against the trap's row: in one file, and across the files of one crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from g4diag.analyzers import inspect_files
from g4diag.analyzers.faulting_block import ANALYZER
from g4diag.dump import core_dump
from g4diag.dump.writer import write_dump
from g4diag.model import Grade, Incident, KernelFault, RingRecord
from tests import samples
from tests.cli.test_inspect import DUMPS
from tests.dump.test_core_dump import CORE, said

ONE = "row {}, K/V head 0 if the call had one query a row (XQA, csrc/xqa/mha.cu)"
MANY = "row x K/V heads + K/V head = {} (XQA, csrc/xqa/mha_sm90.cu)"


def told(meaning: str, **changes: Any) -> list[tuple[str, bool]]:
    fault = KernelFault("kernel_mha", "Warp Illegal Address", "core.17", meaning=meaning)
    incident = samples.incident(samples.faulty_read(), faults=(fault,), **changes)
    return [(finding.text, finding.data["same"]) for finding in ANALYZER.analyze(incident)]


@pytest.mark.parametrize(
    ("meaning", "text", "same"),
    [
        (ONE.format(0), "is row 0, if the call had one query a row: the row that the trap named", True),
        (ONE.format(3), "is row 3, if the call had one query a row: the trap named row 0: they differ", False),
        (MANY.format(0), "row 0 if the layer has 1 .. 65536 K/V heads: the row that the trap named", True),
    ],
)
def test_a_block_against_the_judged_row(meaning: str, text: str, same: bool) -> None:
    ((found, is_same),) = told(meaning)
    assert text in found and is_same is same


@pytest.mark.parametrize(("block", "row", "heads"), [(7, 7, "1 K/V head"), (15, 7, "2 K/V heads"), (3, 7, None)])
def test_a_block_of_rows_times_heads(block: int, row: int, heads: str | None) -> None:
    fault = KernelFault("kernel_mha", "x", "core.17", meaning=MANY.format(block))
    mark = RingRecord(1, 1, "violation", text=f"page_table_stays_in_pool error seen=1 layer=4 row={row} column=60")
    (finding,) = ANALYZER.analyze(Incident("g4diag-postmortem", ring=(mark,), faults=(fault,)))
    assert finding.data["same"] is (heads is not None) and finding.grade is Grade.DERIVED
    assert (f"if the layer has {heads}: the row" if heads else "they differ") in finding.text


@pytest.mark.parametrize("meaning", ["", "something else"])
def test_silent_where_the_block_says_nothing(meaning: str) -> None:
    assert told(meaning) == []
    assert not list(ANALYZER.analyze(samples.faulty_incident()))


@pytest.mark.parametrize(
    ("context", "core"), [({"pid": 18}, "core.17"), ({}, "core.17"), ({"pid": 17}, "core_of_a_worker")]
)
def test_a_core_dump_of_another_process_says_nothing(
    context: dict[str, Any], core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one whose process, or the dump's, is not told."""
    write_dump(samples.incident(samples.faulty_read(), context=context), tmp_path / "live.pt")
    (tmp_path / core).write_bytes(CORE)
    monkeypatch.setattr(core_dump, "says", lambda path: tuple(said()))
    assert not inspect_files([tmp_path]).of("faulting_block")


def test_what_an_h100_left_agrees() -> None:
    (finding,) = inspect_files([DUMPS / "h100-postmortem.json"]).of("faulting_block")
    assert finding.data["row"] == 7 and finding.data["same"]


def test_a_block_of_another_server_is_not_told_under_a_verdict() -> None:
    """The post-mortem's own row 7 says nothing of the row 0 that the dump's trap named; the part keeps its line."""
    inspection = inspect_files([DUMPS / "draft-pool-too-small-faulty.pt", DUMPS / "h100-postmortem.json"])
    assert "at row 0" in inspection.of("verdict")[0].text and not inspection.of("faulting_block")
    assert inspection.parts[1].of("faulting_block")


def test_a_core_dump_beside_a_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dump(samples.incident(samples.faulty_read(), context={"pid": 17}), tmp_path / "live.pt")
    (tmp_path / "core.17").write_bytes(CORE)
    monkeypatch.setattr(core_dump, "says", lambda path: tuple(said()))
    (finding,) = inspect_files([tmp_path]).of("faulting_block")
    assert "is row 3" in finding.text and "named row 0: they differ" in finding.text and "core.17" in finding.text


def test_a_pid_that_is_no_number_is_nobodys(tmp_path: Path) -> None:
    write_dump(samples.incident(samples.faulty_read(), context={"pid": [4319]}), tmp_path / "live.pt")
    assert not inspect_files([tmp_path / "live.pt", DUMPS / "h100-postmortem.json"]).of("faulting_block")
