"""Several files are one inspection: the worst leads, the others agree or not, and there is one timeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from g4diag.analyzers import inspect_file, inspect_files
from g4diag.dump.writer import write_dump
from g4diag.model import Incident, Inspection, Outcome, RingRecord
from tests import samples
from tests.cli.test_inspect import DUMPS

RING = (
    RingRecord(1, 5, "start", text="tp_rank=1 pp_rank=0"),
    RingRecord(2, 9, "step", step=12, mode="DECODE", batch=1),
)


def clean() -> Incident:
    return samples.incident(samples.healthy_read())


def inspected(folder: Path, **incidents: Incident) -> Inspection:
    for name, incident in incidents.items():
        write_dump(incident, folder / f"{name}.pt")
    return inspect_files([folder])


def parts(inspection: Inspection) -> list[str]:
    return [finding.text for finding in inspection.of("parts")]


def test_one_plain_file_is_as_before(tmp_path: Path) -> None:
    path = write_dump(samples.faulty_incident(), tmp_path / "x.pt")
    assert inspect_files([path]) == inspect_file(path) and not inspect_file(path).parts


def test_a_defect_leads_and_the_others_answer(tmp_path: Path) -> None:
    other = replace(samples.faulty_incident(), ring=RING)
    inspection = inspected(tmp_path, a=clean(), b=samples.faulty_incident(), c=other)
    assert inspection.outcome is Outcome.ERROR and len(inspection.parts) == 3
    assert inspection.of("verdict")[0].text.startswith("ERROR: ")
    signed = "g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode"
    assert parts(inspection) == ["a.pt: healthy", "b.pt: leads (error)", f"rank 1, c.pt: agrees: {signed}"]
    (timeline,) = inspection.of("timeline")
    assert any(moment["step"] == 12 for moment in timeline.data["moments"])


def test_a_silent_part_agrees_on_the_issue(tmp_path: Path) -> None:
    silent = samples.faulty_read()
    silent.page_table_BP[silent.page_table_BP >= samples.SWA_PAGES] = 7
    inspection = inspected(
        tmp_path, a=samples.faulty_incident(), b=samples.incident(silent, swaps=(samples.stale_swap(),))
    )
    assert parts(inspection)[1].startswith("b.pt: agrees on trtllm-mha-swa, by another sign of it: ")


def test_what_cannot_be_judged_does_not_spoil_a_clean_part(tmp_path: Path) -> None:
    inspection = inspected(tmp_path, a=samples.incident(ring=RING), b=clean())
    assert inspection.outcome is Outcome.HEALTHY
    assert parts(inspection) == ["rank 1, a.pt: nothing to judge in it (g4diag)", "b.pt: leads (healthy)"]


def test_a_file_that_could_not_be_read_does(tmp_path: Path) -> None:
    whole = write_dump(clean(), tmp_path / "b.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: len(whole) // 2])
    inspection = inspect_files([tmp_path])
    assert inspection.outcome is Outcome.INCONCLUSIVE
    assert any("a.pt: not read: " in finding.text for finding in inspection.of("provenance"))


@pytest.mark.parametrize("faulty", [True, False])
def test_files_by_name(tmp_path: Path, faulty: bool) -> None:
    paths = [write_dump(clean(), tmp_path / "a.pt"), write_dump(clean(), tmp_path / "b.pt")]
    if faulty:
        paths[1] = write_dump(samples.faulty_incident(), tmp_path / "c.pt")
    inspection = inspect_files(paths)
    assert inspection.name == "a.pt and 1 more"
    assert inspection.outcome is (Outcome.ERROR if faulty else Outcome.HEALTHY)


def test_files_of_different_processes_are_told(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("[2026-11-22 10:00:00] g4diag armed: {} pid=915\nKilled\n")
    named = [replace(clean(), context={"pid": pid}) for pid in (4319, 915)]
    inspection = inspected(tmp_path, a=named[0], b=named[1], c=clean())
    said = "they are of 2 processes: pid 4319 (a.pt); pid 915 (b.pt, server.log)"
    said = f"3 of 4 files name their process: {said}"
    assert parts(inspection)[-1] == said and inspection.of("parts")[-1].data["pids"] == [[4319], [915]]


def test_files_of_one_process_need_no_line(tmp_path: Path) -> None:
    """A log names every process that was armed: it ties the dumps of several."""
    armed = "".join(f"[2026-11-22 10:00:00] g4diag armed: {{}} pid={pid}\n" for pid in (7, 8, 9))
    (tmp_path / "server.log").write_text(armed)
    inspection = inspected(tmp_path, a=replace(clean(), context={"pid": 8}), b=replace(clean(), context={"pid": 9}))
    assert not any("processes" in text for text in parts(inspection))


def test_no_allocator_is_ruled_out_whose_trap_is_broken_in_another_file() -> None:
    files = [DUMPS / "draft-pool-too-small-faulty.pt", DUMPS / "legacy-allocator.pt"]
    alone, both = inspect_files(files[:1]), inspect_files(files)
    names = [[finding.data["hypothesis"] for finding in found.of("ruled_out")] for found in (alone, both)]
    assert [name for name in names[0] if name not in names[1]] == [
        "an allocator that handed out wrong slots in a call recorded"
    ]
    assert names[1], "what no other file speaks against stays"


def test_of_several_errors_the_first_in_time_leads(tmp_path: Path) -> None:
    clock = {"wall_ns": 1_795_000_000_000_000_000, "mono_ns": 10_000_000_000, "pid": 7}
    later = {**clock, "wall_ns": clock["wall_ns"] + 300_000_000, "mono_ns": clock["mono_ns"] + 300_000_000}
    wrong = samples.faulty_read()
    wrong.page_table_BP[wrong.page_table_BP >= samples.SWA_PAGES] = 7
    write_dump(replace(samples.incident(wrong), context=clock), tmp_path / "z.pt")
    write_dump(replace(samples.faulty_incident(), context=later), tmp_path / "a.pt")
    inspection = inspect_files([tmp_path])
    assert inspection.of("verdict")[0].data["trap"] == "page_table_in_layer_space"
    said = [finding.text for finding in inspection.of("parts")]
    assert said[1] == "z.pt: leads (error)" and said[0].startswith("a.pt: 0.300 s later")
