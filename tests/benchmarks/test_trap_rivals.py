"""`trap_rivals.py` and `trap_blocks.py` from server to table, over a stand-in engine and compute-sanitizer."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang", reason="the pair's configurations are transformers'")

STAND_IN = Path(__file__).with_name("standby_stand_in.py")
ALL = (
    "nothing",
    "CUDA_LAUNCH_BLOCKING=1",
    "nothing, eager",
    "fork's host check, eager",
    "nothing, no draft",
    "--kv-canary log, no draft",
)


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    module, servers = importlib.import_module("trap_rivals"), importlib.import_module("servers")
    from g4diag.servers import run as server_run

    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("G4_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(server_run, "COMMAND", (sys.executable, str(STAND_IN)))
    monkeypatch.setattr(servers, "own_child", lambda: None)
    monkeypatch.setattr(server_run, "_arming_problem", lambda job, armed: "")
    return module


def sanitizer(folder: Path, seconds: float) -> str:
    """A tool that runs what it is given, after a while."""
    tool = folder / "compute-sanitizer"
    tool.write_text(
        f'#!/bin/sh\nfor job; do :; done\necho "========= COMPUTE-SANITIZER $1 $2"\n'
        f'STAND_IN_SANITIZED={seconds} exec "{sys.executable}" "{STAND_IN}" "$job"\n'
    )
    tool.chmod(0o755)
    return str(tool)


def run(rivals: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["trap_rivals.py", "--stagger", "0.1", "--rounds", "1", *arguments])
    code: int = rivals.main()
    return code


def test_each_is_timed_beside_nothing_and_the_sanitizer_waits_meanwhile(
    rivals: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = sanitizer(tmp_path, 8.0)
    limits = ("--time-limit", "100", "--sanitizer-seconds", "20", "--sanitizer", tool)
    assert run(rivals, monkeypatch, "--only", ";".join(ALL), *limits) == 0
    content = json.loads((tmp_path / "out" / "trap_rivals.json").read_text())
    rows = {row["config"]: row for row in content["summary"]}
    assert set(rows) == set(ALL[:-1]) and all(row["batch"] == 32 for row in rows.values())
    assert rows["CUDA_LAUNCH_BLOCKING=1"]["ratio"] > 1.5 and rows["nothing, no draft"]["ratio"] == 1.0
    assert content["sanitizer"]["outcome"] == "finished" and content["sanitizer"]["batch"] == 32
    states = content["servers"]
    assert "kv-canary: not here" in states["rivals/--kv-canary log, no draft"]["why"]
    logs = {path.parent.name: path.read_text() for path in (tmp_path / "work" / "overhead").glob("*/server.log")}
    said = [("drafted: True" in text, "drafted: False" in text) for text in logs.values()]
    # The canary's says neither: it raises before. The sanitizer's has the draft.
    assert sorted(said) == [(False, False), (False, True)] + [(True, False)] * 5
    assert sum("COMPUTE-SANITIZER --tool memcheck" in text for text in logs.values()) == 1
    shown = capsys.readouterr().out
    assert "compute-sanitizer memcheck, eager: finished, step" in shown and "no draft: no figure" in shown


def test_what_is_not_ready_or_not_seen_to_be_on_is_said(
    rivals: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN_SILENT", "1")
    limits = ("--time-limit", "32", "--sanitizer-seconds", "6", "--sanitizer", sanitizer(tmp_path, 300.0))
    assert run(rivals, monkeypatch, "--only", "nothing, eager;fork's host check, eager", *limits) == 1
    shown = capsys.readouterr().out
    assert "compute-sanitizer memcheck, eager: not ready in" in shown
    assert "fork's host check, eager: no sign in its log" in shown


def test_blocks_from_the_server_to_the_table_and_back(
    rivals: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = importlib.import_module("trap_blocks")
    asked = ("--shape", "26b-a4b", "--new", "200", "--block-steps", "8", "--cycles", "6", "--time-limit", "60")
    monkeypatch.setenv("STAND_IN_EXPERTS", "100")
    monkeypatch.setattr(sys, "argv", ["trap_blocks.py", *asked])
    assert blocks.main() == 0
    shown = capsys.readouterr().out
    assert "all + recorder" in shown and "widest interval" in shown and "saw too few steps: 0" in shown
    content = json.loads((tmp_path / "out" / "trap_blocks.json").read_text())
    assert (content["experts"]["least_used"], content["experts"]["problem"]) == (100, "")
    assert len(content["blocks"]) == len(content["begun"]) >= 24 and {row["mode"] for row in content["summary"]} == set(
        blocks.NAMES
    )
    monkeypatch.setattr(sys, "argv", ["trap_blocks.py", "--pool", *[str(tmp_path / "out" / "trap_blocks")] * 2])
    assert blocks.main() == 0 and "correlation of neighbouring blocks" in capsys.readouterr().out


def test_a_job_is_found_and_stopped_whole(rivals: Any, tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    job = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job.json")], start_new_session=True)

    def states() -> list[str]:
        found = [Path(f"/proc/{pid}/stat").read_text() for pid in rivals.members(tmp_path)]
        return [text.rpartition(")")[2].split()[0] for text in found]

    try:
        end = time.monotonic() + 20
        while len(states()) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        rivals.tell(rivals.members(tmp_path), signal.SIGSTOP)
        while states() != ["T", "T"] and time.monotonic() < end:  # one that waits for a disk stops later
            time.sleep(0.1)
        assert states() == ["T", "T"]
        rivals.tell(rivals.members(tmp_path), signal.SIGCONT)
        while "T" in states() and time.monotonic() < end:
            time.sleep(0.1)
        assert "T" not in states() and rivals.members(tmp_path / "other") == []
    finally:
        rivals.tell(rivals.members(tmp_path), signal.SIGKILL)
        job.wait()
