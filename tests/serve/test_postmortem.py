"""From a grave to a cause: every kind of death by what it leaves, and one file that reads back."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4diag.analyzers import inspect_file
from g4diag.dump import postmortem as file_format
from g4diag.dump.ring import RingWriter, read_ring
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade
from g4diag.serve import postmortem
from g4diag.serve.postmortem import End, cause_of
from g4diag.stack.live import records

ILLEGAL = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
CRASHED = "Subprocess scheduler (pid=7) crashed with exit code -9. Triggering SIGQUIT for cleanup..."


def end(status: int, **more: object) -> End:
    return End(status, time.time() - 5, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ended", "log", "cause", "grade"),
    [
        (end(-9), f"ok\n{ILLEGAL}\n{CRASHED}", "illegal-access", Grade.MEASURED),
        (end(1), "IndexError: list index out of range", "index-error", Grade.MEASURED),
        (end(-9, oom_kills=1), CRASHED, "oom-kill", Grade.DERIVED),
        (end(-9, oom_kills=1), "", "oom-kill", Grade.DERIVED),
        (end(-9, oom_kills=0), CRASHED, "killed", Grade.MEASURED),
        (end(-9), CRASHED.replace("-9", "-6"), "abort", Grade.MEASURED),
        (end(-11), "serving", "segfault", Grade.MEASURED),
        (end(-6), "", "abort", Grade.MEASURED),
        (end(-9), "ValueError: no such model", "other-error", Grade.DERIVED),
        (end(3), "goodbye", "unknown", Grade.GUESS),
        (end(-64), "", "unknown", Grade.GUESS),
    ],
)
def test_the_most_likely_cause(ended: End, log: str, cause: str, grade: Grade) -> None:
    found, line, how = cause_of(ended, log, [])
    assert (found, how) == (cause, grade) and line and found in postmortem.CAUSES


def test_the_recorder_speaks_where_no_log_was_kept(tmp_path: Path) -> None:
    RingWriter(tmp_path / "x", {}).mark("exception", "AcceleratorError: CUDA error: an illegal memory access")
    assert cause_of(end(-9), "", [read_ring(tmp_path / "x")])[0] == "illegal-access"


@pytest.mark.parametrize(
    ("ended", "dead"),
    [
        (end(0), False),
        (end(1), True),
        (end(-9), True),
        (end(-15, asked=True), False),
        (end(0, asked=True), False),
        (end(-9, asked=True), False),
        (end(-11, asked=True), True),
        (end(-15, asked=True, schedulers_gone=(7,)), True),
    ],
)
def test_what_is_a_death(ended: End, dead: bool) -> None:
    assert ended.is_a_death is dead


@pytest.fixture
def grave(tmp_path: Path) -> tuple[Path, Path]:
    """(dump directory, run directory): ours, a stranger's ring, one of an earlier life, a torn one, a verdict."""
    dumps, run_dir = tmp_path / "dumps", tmp_path / "run"
    records.write(run_dir, "armed", "", {"patches": [], "faults": [], "traps": ["x"]})
    writer = RingWriter(dumps / "ring-2-ours.g4ring", {"process": "scheduler"})
    for step in range(300):
        writer.step("DECODE", [step, *[1] * 14])
    stranger = (dumps / "ring-2-ours.g4ring").read_bytes()
    (dumps / "ring-3-torn.g4ring").write_bytes(stranger[:100])
    (dumps / "ring-4-foreign.g4ring").write_bytes(b"x" * 5000)
    (run_dir / f"verdict-{os.getpid()}.json").write_text(json.dumps({"layer": 4, "value": 188, "bound": 154}))
    (run_dir / "verdict-1.json").write_text("{torn")
    (dumps / "core.1").write_bytes(b"core")
    return dumps, run_dir


def test_everything_of_this_run_is_in_the_file(grave: tuple[Path, Path]) -> None:
    dumps, run_dir = grave
    found = postmortem.gather(end(-9), dumps, run_dir, {"G4DIAG_EXPLICIT_FLAGS": "model"}, f"a\n{ILLEGAL}\n", "s.log")
    path = postmortem.write(found, dumps)
    assert file_format.parse(path.read_bytes()) == found
    assert [(ring.file, len(ring.records), ring.records[-1].step) for ring in found.rings] == [
        ("ring-2-ours.g4ring", postmortem.TAIL_RECORDS, 299)
    ]
    assert [verdict.data for verdict in found.verdicts] == [
        {"unreadable": "{torn"},
        {"layer": 4, "value": 188, "bound": 154},
    ]
    assert (found.signal, found.manifest["traps"], found.log_tail) == ("SIGKILL", ["x"], ("a", ILLEGAL))
    assert [Path(core.file).name for core in found.cores] == ["core.1"] and found.flags == ("model",)
    line = postmortem.said_in_one_line(found, path)
    assert line.startswith(f"postmortem file={path} cause=illegal-access ") and "last_step=299" in line
    assert "\n" not in line


def test_earlier_lives_in_the_same_folder_are_left_out(grave: tuple[Path, Path]) -> None:
    later = End(-9, time.time() + 5)
    found = postmortem.gather(later, *grave, {}, "", "")
    assert found.rings == () and found.cores == () and found.log is None


def test_inspect_tells_the_cause(grave: tuple[Path, Path]) -> None:
    dumps, run_dir = grave
    path = postmortem.write(postmortem.gather(end(-9), dumps, run_dir, {}, ILLEGAL, ""), dumps)
    inspection = inspect_file(path)
    said = " ".join(finding.text for finding in inspection.findings)
    assert inspection.outcome.exit_code == 4 and inspection.origin == "g4diag-postmortem"
    assert "most likely of illegal-access" in said and "last step 299: DECODE" in said and '"value": 188' in said


@given(raw=st.binary(max_size=300))
def test_hostile_bytes_are_refused(raw: bytes) -> None:
    for data in (raw, b"{" + raw, b'{"schema":"g4diag.postmortem",' + raw):
        with pytest.raises(UnsafeInputError):
            file_format.parse(data)


@pytest.mark.parametrize(
    "lie",
    [
        {"version": 2},
        {"status": "x"},
        {"grade": "surely"},
        {"rings": [{}]},
        {"rings": [{"file": "x", "pid": 1}] * 100},
        {"log_tail": [1]},
        {"verdicts": [{"file": "x", "data": {"a": float("inf")}}]},
        {"cores": [{"file": "x", "bytes": 1 << 70}]},
    ],
)
def test_lies_are_named(lie: dict[str, object]) -> None:
    good = {"schema": "g4diag.postmortem", "version": 1, "cause": "x", "line": "", "grade": "guess", "status": 1}
    file_format.parse(json.dumps(good).encode())
    with pytest.raises(UnsafeInputError, match=r"wanted .* found"):
        file_format.parse(json.dumps(good | lie).encode())


def test_deep_json_is_refused() -> None:
    with pytest.raises(UnsafeInputError):
        file_format.parse(b'{"a":' * 100_000)


def test_oom_kills_are_read_from_our_control_group(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "own").write_text("0::/a\n")
    assert postmortem.oom_kills(tmp_path, tmp_path / "own") == 2
    assert postmortem.oom_kills(tmp_path / "none", tmp_path / "own") is None
