"""A directory of what a crash left, as one case: parts, ranks, notes and one timeline; and nothing outside it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4diag.dump import case as case_module
from g4diag.dump import core_dump, postmortem
from g4diag.dump.case import Case, Part, read_case
from g4diag.dump.postmortem import PostMortem, RingFile
from g4diag.dump.ring import NUMBERS, RingWriter, read_ring
from g4diag.dump.safetensors import safetensors_tensors
from g4diag.dump.timeline import MONO, WALL, Moment
from g4diag.dump.writer import write_dump
from g4diag.errors import UnsafeInputError, UsageError, VacuousError
from g4diag.model import Grade, Incident, Severity, Violation
from tests import samples

VIOLATION = Violation("page_table_stays_in_pool", Severity.ERROR, "page 189 is outside", step=12)


def ring_in(folder: Path, name: str = "ring-1-pid9.g4ring", rank: int = 1) -> RingWriter:
    writer = RingWriter(folder / name, {"process": "scheduler"}, 1 << 16)
    writer.mark("start", f"tp_rank={rank} pp_rank=0")
    for step in range(10, 13):
        writer.step("DECODE", [step, *range(1, len(NUMBERS) - 1)])
    writer.mark("violation", "page_table_stays_in_pool error", step=12)
    return writer


def live_dump(folder: Path, name: str = "live.pt", **more: Any) -> Path:
    context = {"live": True, "pid": os.getpid(), WALL: time.time_ns(), MONO: time.monotonic_ns(), **more}
    made = samples.incident(samples.faulty_read(), violations=(VIOLATION,), context=context)
    return write_dump(made, folder / name)


def log_in(folder: Path, hours: int = 0) -> None:
    said = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 3600 * hours))
    lines = f"[{said} TP1] g4diag violation trap=x step=12\n[{said} TP1] CUDA error: an illegal memory access\n"
    (folder / "server.log").write_text(lines)


def call_in(folder: Path, number: int, **changes: Any) -> Path:
    """A FlashInfer call in its documented form; the real logger writes those of test_api_dump."""
    name = "trtllm_batch_decode_with_kv_cache"
    made = folder / f"20261122_10000{number}_000_pid5_{name}_call{number:04d}"
    made.mkdir(parents=True)
    details = {"kwarg_kv_cache__0": {"shape": [154, 2, 64, 8]}}
    record = {
        **{"function_name": name, "call_sequence": number, "process_id": 5, "execution_status": "inputs_saved"},
        **{"timestamp": made.name[:19], "input_metadata": {"kwarg_window_left": 128}, "tensor_details": details},
    }
    (made / "metadata.jsonl").write_text(json.dumps(record | changes) + "\n")
    table, lens = np.full((1, 4), 200, np.int32), np.array([200], np.int32)
    (made / "inputs.safetensors").write_bytes(safetensors({"kwarg_block_tables": table, "kwarg_seq_lens": lens}))
    return made


def safetensors(arrays: Mapping[str, Any]) -> bytes:
    rows, data = {}, b""
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        rows[name] = {"dtype": "I32", "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.tobytes()
    text = json.dumps(rows).encode()
    return len(text).to_bytes(8, "little") + text + data


def said(case: Case) -> str:
    return "\n".join(text for _, text in case.notes)


def names(case: Case) -> list[str]:
    return [part.name for part in case.parts]


def part_of(case: Case, name: str) -> Part:
    (found,) = [part for part in case.parts if part.name == name]
    return found


@pytest.fixture
def crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that one crash may leave."""
    monkeypatch.setattr(core_dump.shutil, "which", lambda name: None)
    folder = tmp_path / "crash"
    (folder / "flashinfer").mkdir(parents=True)
    ring_in(folder)
    live_dump(folder)
    log_in(folder)
    (folder / "core.17").write_bytes(b"\x7fELF\x02\x01\x01\x33" + bytes(8) + b"\x04\0\xbe\0" + bytes(44))
    ring = read_ring(folder / "ring-1-pid9.g4ring")
    rings = (RingFile("r", 77, "", ring.started_ns, records=ring.records, started_mono_ns=ring.started_mono_ns),)
    written = PostMortem("illegal-access", "CUDA error", Grade.MEASURED, -9, rings=rings, log_tail=("Killed",))
    postmortem.write(written, folder / "postmortem-1.json")
    call_in(folder / "flashinfer", 1, execution_status="completed")
    call_in(folder / "flashinfer", 2)
    (folder / "flashinfer" / "session.jsonl").write_text("{}\n")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\0" * 99)
    (folder / "notes.txt").write_text("call Bob\n")
    return folder


def test_a_directory_is_one_case(crash: Path) -> None:
    case = read_case([crash])
    assert names(case) == ["core.17", "live.pt", "postmortem-1.json", "server.log", "flashinfer"]
    live = part_of(case, "live.pt")
    # The ring went with the dump of its process, and told its rank.
    assert live.rank == 1 and live.incident.ring[-1].kind == "violation" and len(live.incident.ring) == 5
    assert part_of(case, "flashinfer").incident.origin == "flashinfer-dump"
    assert len(part_of(case, "flashinfer").incident.reads) == 2
    assert part_of(case, "postmortem-1.json").incident.log[0].kind == "exit"
    assert "skipped, as nothing that g4diag reads: notes.txt, photo.jpg" in said(case)
    assert "session.jsonl" not in said(case) and str(crash.parent) not in said(case).replace("target cudacore", "")


def test_several_files_make_one_timeline(crash: Path) -> None:
    moments = read_case([crash]).timeline()
    times = [moment.time for moment in moments if moment.time is not None]
    kinds = [moment.kind for moment in moments]
    assert times == sorted(times) and len(times) >= 10
    assert {"start", "step", "violation", "illegal-access", "dump", "kernel-call"} <= set(kinds)
    # The same record in the ring and in the post-mortem is told once.
    assert sum(kind == "step" for kind in kinds) == 3
    steps = [moment.step for moment in moments if moment.kind == "step"]
    assert steps == [10, 11, 12]
    now = time.time()
    assert all(abs(moment.time - now) < 60 for moment in moments if moment.kind == "step" and moment.time)


@pytest.mark.parametrize("hours", [-8, 0, 9])
def test_a_log_of_another_zone_is_moved_to_the_recorders_clock(hours: int, tmp_path: Path) -> None:
    ring_in(tmp_path)
    log_in(tmp_path, hours)
    case = read_case([tmp_path])
    (illegal,) = [moment for moment in case.timeline() if moment.kind == "illegal-access"]
    assert illegal.time is not None and abs(illegal.time - time.time()) < 60
    assert ("log times moved" in said(case)) is (hours != 0)


def test_where_no_clock_ties_it_is_ordered_by_step_and_said(tmp_path: Path) -> None:
    made = samples.incident(violations=(replace(VIOLATION, step=40), replace(VIOLATION, step=7)))
    write_dump(made, tmp_path / "old.pt")
    log_in(tmp_path)
    case = read_case([tmp_path])
    rest = [moment for moment in case.timeline() if moment.time is None]
    assert [moment.step for moment in rest] == [7, 40] and case.timeline()[-2:] == tuple(rest)
    assert "old.pt: no time of day told; " in said(case)


def test_a_dump_without_a_clock_keeps_the_order_of_its_recorder(tmp_path: Path) -> None:
    ring = ring_in(tmp_path / "elsewhere").tail()
    write_dump(samples.incident(violations=(VIOLATION,), ring=ring), tmp_path / "old.pt")
    kinds = [moment.kind for moment in read_case([tmp_path / "old.pt"]).timeline()]
    assert kinds == ["start", "step", "step", "step", "violation", "dump"]


def test_a_ring_of_an_earlier_process_with_the_same_pid_stays_apart(tmp_path: Path) -> None:
    ring_in(tmp_path, "ring-1.g4ring", rank=0).close()
    writer = ring_in(tmp_path, "ring-2.g4ring", rank=3)
    live = samples.incident(violations=(VIOLATION,), context={"pid": os.getpid()}, ring=writer.tail(2))
    write_dump(live, tmp_path / "live.pt")
    case = read_case([tmp_path])
    assert names(case) == ["live.pt", "ring-1.g4ring"] and [part.rank for part in case.parts] == [3, 0]
    assert "ring-2.g4ring is the recorder of the process that wrote live.pt" in said(case)


def test_a_ring_of_another_process_stays_apart(tmp_path: Path) -> None:
    ring_in(tmp_path)
    live_dump(tmp_path, "rank3/live.pt", pid=1)
    case = read_case([tmp_path])
    assert names(case) == ["rank3/live.pt", "ring-1-pid9.g4ring"] and [part.rank for part in case.parts] == [3, 1]


def test_one_broken_file_is_a_note(tmp_path: Path) -> None:
    path = live_dump(tmp_path)
    (tmp_path / "torn.pt").write_bytes(path.read_bytes()[:900])
    (tmp_path / "a.g4ring").write_bytes(b"G4DRING\0" + bytes(9000))
    (tmp_path / "crash_dump.pkl").write_bytes(b"\x80\x04]q\0.")
    case = read_case([tmp_path])
    assert names(case) == ["live.pt"]
    assert all(f"{name}: not read: " in said(case) for name in ("torn.pt", "a.g4ring", "crash_dump.pkl"))


def test_nothing_readable_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UnsafeInputError, match="none of 1 files could be read") as refusal:
        read_case([tmp_path])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("junk", [(), ("a.txt",), ("a.json", "b.txt")])
def test_nothing_of_ours_is_inconclusive(junk: tuple[str, ...], tmp_path: Path) -> None:
    for name in junk:
        (tmp_path / name).write_text("{}" if name.endswith("json") else "hello")
    with pytest.raises(VacuousError):
        read_case([tmp_path])


def test_one_of_several_that_is_not_there_is_told(tmp_path: Path) -> None:
    live_dump(tmp_path)
    case = read_case([tmp_path / "none", tmp_path / "live.pt"])
    assert case.unread == (f"{tmp_path / 'none'}: not read: No such file or directory",) and len(case.parts) == 1


def test_no_such_path(tmp_path: Path) -> None:
    live_dump(tmp_path)
    for paths in ([], [tmp_path / "none"], [tmp_path / "nor this", tmp_path / "none"]):
        with pytest.raises(UsageError):
            read_case(paths)


def test_of_several_of_which_none_is_read_each_has_its_own_reason(tmp_path: Path) -> None:
    none, other, empty, text, torn, folder = (
        tmp_path / name for name in ("none.pt", "nor.pt", "empty.log", "text.pt", "torn.pt", "folder")
    )
    empty.touch()
    text.write_text("hello\n")
    torn.write_bytes(b"PK\x03\x04")
    folder.mkdir()
    missing, nothing = f"{none}: No such file or directory", f"{folder}: nothing in it is a dump"
    for paths, error, says in (
        ([none, empty], VacuousError, [missing, f"{empty}: empty"]),
        ([empty, none], VacuousError, [f"{empty}: empty", missing]),
        ([none, folder], VacuousError, [missing, nothing]),
        ([none, text], UnsafeInputError, [missing, f"{text}: not a server log"]),
        ([empty, torn, folder], UnsafeInputError, [f"{empty}: empty", f"{torn}: ", nothing]),
        ([none, other], UsageError, [missing, f"{other}: No such file or directory"]),
    ):
        with pytest.raises(error) as refusal:
            read_case(paths)
        told = str(refusal.value).split("; ")
        assert len(told) == len(says) and "\n" not in str(refusal.value), refusal.value
        assert all(line.startswith(start) for line, start in zip(told, says, strict=True)), told
    with pytest.raises(UsageError, match=r"; and 2 more$"):
        read_case([tmp_path / str(number) for number in range(8)])
    (folder / "torn.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UnsafeInputError, match=r"none of 1 files could be read; the first: folder/torn\.pt"):
        read_case([none, folder])


def test_one_file_is_a_case_of_one(tmp_path: Path) -> None:
    case = read_case([live_dump(tmp_path)])
    assert names(case) == ["live.pt"] and not case.notes
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UnsafeInputError):
        read_case([tmp_path / "torn.pt"])


def test_several_paths_are_one_case(tmp_path: Path) -> None:
    ring_in(tmp_path / "rings")
    case = read_case([live_dump(tmp_path), tmp_path / "rings"])
    assert names(case) == ["live.pt"] and len(case.parts[0].incident.ring) == 5


def test_a_call_directory_itself_may_be_given(tmp_path: Path) -> None:
    case = read_case([call_in(tmp_path, 1)])
    (part,) = case.parts
    assert part.incident.origin == "flashinfer-dump" and len(part.incident.reads) == 1
    with pytest.raises(UsageError, match="give the directory"):
        read_case([call_in(tmp_path, 2) / "metadata.jsonl"])


def test_a_folder_that_only_has_a_metadata_file_is_walked(tmp_path: Path) -> None:
    live_dump(tmp_path)
    for name in ("metadata.json", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    assert names(read_case([tmp_path])) == ["live.pt"]


def test_nothing_outside_the_directory_is_opened(tmp_path: Path) -> None:
    outside = live_dump(tmp_path, "outside.pt")
    inside = tmp_path / "inside"
    live_dump(inside)
    (inside / "link.pt").symlink_to(outside)
    (inside / "up").symlink_to(tmp_path)
    (inside / "loop").symlink_to(inside)
    os.mkfifo(inside / "fifo.pt")
    call = call_in(inside, 1)
    (call / "metadata.jsonl").unlink()
    (call / "metadata.jsonl").symlink_to(outside)
    case = read_case([inside])
    assert names(case) == ["live.pt"]
    assert said(case).count("not followed") == 3 and "fifo.pt: not a regular file" in said(case)
    assert f"{call.name}: not read: its metadata is not a regular file" in said(case)


def test_depth_and_count_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_dump(tmp_path)
    deep = tmp_path.joinpath(*"abcdefghij")
    deep.mkdir(parents=True)
    live_dump(deep)
    case = read_case([tmp_path])
    assert names(case) == ["live.pt"] and "directories deep" in said(case)
    monkeypatch.setattr(case_module, "MAX_FILES", 3)
    with pytest.raises(UnsafeInputError, match="at most 3"):
        read_case([tmp_path])


def test_a_moment_has_a_plain_text(crash: Path) -> None:
    for moment in read_case([crash]).timeline():
        assert isinstance(moment, Moment) and "\n" not in moment.text and moment.part


def test_the_tensors_that_tests_write_are_safetensors(tmp_path: Path) -> None:
    path = call_in(tmp_path, 1) / "inputs.safetensors"
    with path.open("rb") as file:
        found = safetensors_tensors(file, path.stat().st_size)
        assert found["kwarg_block_tables"].read().tolist() == [[200] * 4]
    numpy = pytest.importorskip("safetensors.numpy")
    assert numpy.load_file(path)["kwarg_seq_lens"].tolist() == [200]


def test_an_incident_without_a_clock_has_no_times() -> None:
    assert case_module.timeline.clock_of(Incident("g4diag", context={WALL: -1, MONO: True})) is None


def test_a_case_cut_short_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write_dump(samples.incident(), tmp_path / f"{name}.pt")
    assert read_case([tmp_path]).is_whole
    monkeypatch.setattr("g4diag.dump.case.MAX_PARTS", 1)
    assert not read_case([tmp_path]).is_whole
