"""CUDA core dumps: told by their header, and what cuda-gdb prints, in its documented form, as kernel faults."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from g4diag.dump import core_dump
from g4diag.dump.reader import read_dump
from g4diag.errors import UnsafeInputError

CORE = b"\x7fELF\x02\x01\x01\x33" + bytes(8) + struct.pack("<HH", 4, 190) + bytes(44)
OPENED = """\
Opening GPU coredump: core.17
CUDA Exception: Warp Illegal Address
The exception was triggered at PC 0x7ff533bb91d0
[Current focus set to CUDA kernel 0, grid 9, block (1,0,3), thread (32,0,0), device 0, sm 124, warp 0, lane 0]
#0  0x00007ff533bb9250 in {frame}
  Kernel Parent Dev Grid Status                         SMs Mask GridDim  BlockDim Invocation
*      0      -   0    9 Active 0x000000000000000000000000ffffffff (9,2,7) (128,1,{z}) kernel_mha()
"""


def said(z: int = 2, frame: str = "") -> list[str]:
    return OPENED.format(z=z, frame=frame or f"kernel_mha<<<(9,2,7),(128,1,{z})>>> ()").splitlines()


def test_the_fault_in_focus_is_told() -> None:
    (fault,) = core_dump.faults(said(), "core.17")
    assert (fault.kernel, fault.exception) == ("kernel_mha", "Warp Illegal Address")
    assert (fault.block, fault.thread, fault.source) == ((1, 0, 3), (32, 0, 0), "core.17")


@pytest.mark.parametrize(
    ("z", "meaning"),
    [(2, "row 3, K/V head 0 if"), (3, "row x K/V heads + K/V head = 3"), (1, "")],
)
def test_a_block_of_xqa_is_a_row_where_its_threads_tell_the_source(z: int, meaning: str) -> None:
    (fault,) = core_dump.faults(said(z), "x")
    assert fault.meaning.startswith(meaning) and bool(fault.meaning) is bool(meaning)


def test_another_kernel_gets_no_meaning() -> None:
    frame = "fmhaSm100fKernel_QkvBfloat16<int, (Kind)2><<<(9,2,7),(128,1,2)>>> ()"
    (fault,) = core_dump.faults(said(frame=frame), "x")
    assert fault.kernel.startswith("fmhaSm100fKernel") and fault.meaning == "" and fault.block == (1, 0, 3)


def test_without_a_frame_the_table_names_the_kernel() -> None:
    (fault,) = core_dump.faults(said(frame="?? ()"), "x")
    assert fault.kernel == "kernel_mha" and fault.meaning.startswith("row 3")


@pytest.mark.parametrize("lines", [[], ["no cuda-gdb to read it with"], ["\x1b[2J" * 99], ["(" * 5000], ["<<<" * 3000]])
def test_words_that_tell_nothing_give_no_fault(lines: list[str]) -> None:
    assert core_dump.faults(lines, "x") == ()


def test_numbers_without_end_are_no_coordinates() -> None:
    line = f"[Current focus set to CUDA kernel 0, grid 9, block ({'9' * 5000},0,3), thread (0,0,0), lane 0]"
    (fault,) = core_dump.faults(["CUDA Exception: Warp Illegal Address", line], "x")
    assert fault.block is None and fault.kernel == ""


def test_without_a_debugger_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_dump.shutil, "which", lambda name: None)
    (tmp_path / "core.17").write_bytes(CORE)
    incident = read_dump(tmp_path / "core.17")
    assert incident.origin == "cuda-coredump" and incident.faults == ()
    assert "cuda-gdb -nx" in incident.notes[-1][1] and "no cuda-gdb" in incident.notes[1][1]


def debugger(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    gdb = folder / "cuda-gdb"
    gdb.write_text(f"#!/bin/sh\n{body}\n")
    gdb.chmod(0o755)
    monkeypatch.setattr(core_dump.shutil, "which", lambda name: str(gdb))


def test_a_debugger_is_asked_without_its_init_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "core.17").write_bytes(CORE)
    (tmp_path / "said").write_text("\n".join(said()))
    debugger(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/asked\ncat {tmp_path}/said')
    incident = read_dump(tmp_path / "core.17")
    (fault,) = incident.faults
    asked = (tmp_path / "asked").read_text()
    assert fault.meaning.startswith("row 3") and f"target cudacore {tmp_path}/core.17" in asked
    assert "-nx" in asked and "auto-load off" in asked


def test_a_debugger_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debugger(tmp_path, monkeypatch, "exec sleep 60")
    assert core_dump.says(tmp_path / "core", seconds=0.2) == ("cuda-gdb: gave no end of an answer within 0.2 s",)


@pytest.mark.parametrize("name", ["core\n!sh", "core -ex shell", "core|sh", "core;x"])
def test_a_name_that_a_debugger_might_obey_is_not_given_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debugger(tmp_path, monkeypatch, f"touch {tmp_path}/ran")
    (line,) = core_dump.says(tmp_path / name)
    assert line.startswith("not given") and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (CORE[:16] + struct.pack("<HH", 4, 62) + bytes(44), "core dump of the host"),
        (CORE[:16] + struct.pack("<HH", 2, 190) + bytes(44), "type 2"),
        (b"\x7fELF", "type 0"),
    ],
)
def test_another_elf_file_is_refused(raw: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(UnsafeInputError, match=found):
        read_dump(tmp_path / "x")
