"""The ladder: each rung is reached by what it stands for, and by nothing less."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4diag.analyzers import inspect_files, inspect_incident
from g4diag.analyzers.conclusion import conclude
from g4diag.dump.reader import read_dump
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade, Incident, IndexSpace, KernelFault, LogEvent, Outcome, Severity, Violation
from tests import samples

CASES = Path(__file__).parents[1] / "cases" / "evidence"
RECORDED = Violation("page_table_stays_in_pool", Severity.ERROR, "page 9 is outside", row=7, value=9, bound=5)
DEVICE = LogEvent("illegal-access", "CUDA error: an illegal memory access was encountered", "a.log:3", where="x.py:9")
FAULT = KernelFault("kernel_mha(int)", "Warp Illegal Address", "core.7", meaning="row 7, K/V head 0")


@pytest.mark.parametrize(
    ("incident", "outcome"),
    [
        (samples.faulty_incident(), Outcome.ERROR),
        (Incident("g4diag-ring", violations=(RECORDED,)), Outcome.LIKELY),
        (Incident("server-log", log=(DEVICE,)), Outcome.CRASH),
        (Incident("cuda-coredump", faults=(FAULT,)), Outcome.CRASH),
        (samples.incident(samples.healthy_read()), Outcome.HEALTHY),
        (samples.incident(samples.healthy_read(), unread=("1 read was left out",)), Outcome.INCONCLUSIVE),
        (samples.incident(samples.healthy_read(), violations=(RECORDED,)), Outcome.INCONCLUSIVE),
        (samples.incident(), Outcome.INCONCLUSIVE),
    ],
    ids=["judged", "on record", "log", "core dump", "healthy", "left out", "cleared", "nothing"],
)
def test_the_rung(incident: Incident, outcome: Outcome) -> None:
    said = conclude(incident)
    assert said.outcome is outcome and inspect_incident(incident, "x").outcome is outcome
    assert said.first_line.startswith(f"{outcome.upper()}: g4diag: ")
    assert outcome.exit_code == {Outcome.HEALTHY: 0, Outcome.CRASH: 4, Outcome.INCONCLUSIVE: 4}.get(outcome, 1)


def test_what_is_likely_names_its_sources() -> None:
    said = conclude(Incident("g4diag-postmortem", violations=(RECORDED,), faults=(FAULT,)))
    assert said.grade is Grade.DERIVED and len(said.premises) == 2
    assert "page_table_stays_in_pool and the core dump of kernel_mha agree on row 7" in said.text
    assert "row 7" in said.premises[0] and "kernel_mha: Warp Illegal Address" in said.premises[1]


SEEN = Violation(
    *("page_table_stays_in_pool", Severity.ERROR, "page 691 is outside"),
    **{"layer_id": 4, "step": 13, "row": 0, "column": 60, "value": 691, "bound": samples.SWA_PAGES},
)


def test_a_record_of_another_table_of_the_layer_is_not_cleared_by_the_one_in_the_file() -> None:
    """A graph's table is copied after the step, and may be the next one's."""
    later = samples.healthy_read(step=14)
    assert conclude(samples.incident(later, violations=(SEEN,))).outcome is Outcome.LIKELY
    same = samples.healthy_read(step=13)
    assert conclude(samples.incident(same, violations=(SEEN,))).outcome is Outcome.INCONCLUSIVE


def test_a_wrong_id_on_record_leads_before_a_wrong_label_here() -> None:
    label = samples.healthy_read(step=14, table_space=IndexSpace.FULL_PAGE)
    assert conclude(samples.incident(label)).first_line.startswith("WARNING: ")
    said = conclude(samples.incident(label, violations=(SEEN,)))
    assert said.outcome is Outcome.LIKELY and "the record of page_table_stays_in_pool (row 0)" in said.text


def test_a_record_that_was_judged_again_does_not_make_it_likely() -> None:
    said = conclude(samples.incident(samples.healthy_read(), violations=(RECORDED,)))
    assert said.text.endswith("judged again, it holds")


@pytest.mark.parametrize("name", ["case-fi", "case-sg"])
def test_a_dying_call_that_cannot_be_read_is_not_healthy(name: str) -> None:
    inspection = inspect_files([CASES / name])
    assert inspection.outcome is Outcome.INCONCLUSIVE
    assert "the call that never returned: not read: inputs.pt" in inspection.of("verdict")[0].text


def test_a_dump_whose_bad_read_was_left_out_leads_with_its_record() -> None:
    inspection = inspect_files([CASES / "trunc-draft-pool-too-small-faulty.pt"])
    assert inspection.outcome is Outcome.LIKELY
    assert "page 101 at row 0 column 0" in inspection.of("verdict")[0].text


def test_an_odd_file_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    odd = CASES / "format-tensor-min.pt"
    with pytest.raises(UnsafeInputError, match="not ours"):
        read_dump(odd)
    inspection = inspect_files([odd, CASES / "trunc-draft-pool-too-small-faulty.pt"])
    assert inspection.outcome is Outcome.LIKELY
    assert any("format-tensor-min.pt: not read: " in finding.text for finding in inspection.of("provenance"))


def test_a_reader_of_ours_that_fails_is_that_files_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: bytes) -> dict[str, object]:
        raise IndexError("x")

    monkeypatch.setattr("g4diag.dump.reader.parse_plain", fails)
    with pytest.raises(UnsafeInputError, match="its reader ended in IndexError: x"):
        read_dump(CASES / "trunc-draft-pool-too-small-faulty.pt")
