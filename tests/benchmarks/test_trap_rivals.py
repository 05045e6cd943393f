"""`trap_rivals.py` and `trap_blocks.py` from server to table, over a stand-in engine and compute-sanitizer."""

from __future__ import annotations

import importlib
import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
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
    assert "host check, eager: fork_check: would have stopped 50 of 200 looks" in shown


def test_groups_that_do_not_fit_beside_each_other_follow_one_another_each_with_its_own_nothing(
    rivals: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rivals.servers, "free_gib", lambda: 9.0)
    monkeypatch.setenv("STAND_IN_CANARY", "1")
    names = ("nothing", "CUDA_LAUNCH_BLOCKING=1", "nothing, no draft", rivals.CANARY, rivals.CANARY_APART)
    tool = sanitizer(tmp_path, 3.0)
    limits = ("--time-limit", "120", "--later-seconds", "30", "--sanitizer-seconds", "15", "--sanitizer", tool)
    shorter = ("--prompt", "200", "--new", "80", "--sanitizer-prompt", "50")
    assert run(rivals, monkeypatch, "--only", ";".join(names), *limits, *shorter) == 0
    content = json.loads((tmp_path / "out" / "trap_rivals.json").read_text())
    assert content["waves"] == [list(names[:2]), list(names[2:])] and not content["not_run"]
    rows = {row["config"]: row for row in content["summary"]}
    assert set(rows) == set(names) and all(row["ratio"] for row in rows.values())
    ready = [state["ready_seconds"] for state in content["servers"].values()]
    assert all(ready) and content["sanitizer"]["outcome"] == "finished" and content["sanitizer"]["prompt"] == 50
    jobs = [json.loads(path.read_text()) for path in (tmp_path / "work" / "overhead").glob("*/job.json")]
    assert sorted(job["prompt_tokens"] for job in jobs) == [50] + [200] * 5
    assert content["counted"] == {
        rivals.CANARY: {"canary": {"step": 200, "looks": 4000, "violations": 2000}},
        rivals.CANARY_APART: {"canary": {"step": 200, "looks": 4000, "violations": 0}},
    }
    shown = capsys.readouterr().out
    assert "log, no draft: canary: 2,000 violations of 4,000 looks by step 200 (50.0 %)" in shown
    assert "out of place, no draft: canary: 0 violations of 4,000 looks by step 200 (0.0 %)" in shown


def options(rivals: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["trap_rivals.py", *arguments])
    return rivals.parsed()


def test_the_big_shape_goes_in_two_waves_on_an_h200(rivals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = rivals.shape_of(options(rivals, monkeypatch, "--shape", "26b"))
    assert (shape.prompt, shape.new, shape.eager_new, shape.batch) == (1000, 200, 120, 32) and 14 < shape.gib < 16
    first, second = rivals.waves(shape, 139.0, shape.gib + rivals.SANITIZER_GIB)
    assert [len(first.configs), len(second.configs)] == [6, 3]
    assert {config.base for config in second.configs} == {"nothing, no draft"}
    assert first.gib * 6 + shape.gib + rivals.SANITIZER_GIB < 139.0 * 0.92
    assert [len(wave.configs) for wave in rivals.waves(shape, None, 0.0)] == [9]
    assert [len(wave.configs) for wave in rivals.waves(shape, 40.0, 0.0)] == [4, 2, 3]
    tiny = rivals.shape_of(options(rivals, monkeypatch))
    assert (tiny.prompt, tiny.new, tiny.engine, tiny.gib) == (1000, 300, rivals.SHAPES["tiny"].engine, 2.0)
    with pytest.raises(SystemExit, match="wanted at most 7900 together, found 8000"):
        rivals.shape_of(options(rivals, monkeypatch, "--prompt", "7000", "--new", "1000"))


@pytest.mark.parametrize(("prompt", "new"), [(1000, 200), (4000, 400), (300, 64)])
def test_the_big_shapes_pools_hold_the_whole_batch_by_sglangs_own_admission(
    rivals: Any, monkeypatch: pytest.MonkeyPatch, prompt: int, new: int
) -> None:
    budget = pytest.importorskip("sglang.srt.mem_cache.prefill_budget", reason="0.5.23's")
    from sglang.srt.environ import envs

    asked = ("--shape", "26b", "--prompt", str(prompt), "--new", str(new))
    engine = rivals.shape_of(options(rivals, monkeypatch, *asked)).engine
    page, window = rivals.PAGE, importlib.import_module("servers").BIG_WINDOW
    full = engine["max_total_tokens"]
    swa = int(full * engine["swa_full_tokens_ratio"]) // page * page
    paged = -(-prompt // page) * page
    # The last one is admitted beside 31 that wait for it with their prompts whole, and beside what those may decode.
    last = budget.estimate_swa_kv_tokens(paged, new, sliding_window_size=window, page_size=page)
    assert 31 * paged + last < swa
    assert 31 * (paged + new) + paged + page + new < full
    # While they decode: a window, what is not evicted yet of drafts that are all accepted, two drafts ahead and pages.
    drafts = rivals.servers.ENGINE["speculative_num_draft_tokens"]
    held = min(paged + new, window + envs.SGLANG_SWA_EVICTION_INTERVAL.get() * drafts + page)
    assert 32 * (held + 2 * drafts + page) <= swa


def test_a_figure_that_says_nothing_is_told_from_one_that_does(rivals: Any) -> None:
    row, counted = (
        {"batch": 32},
        "install_canary: x\n[canary] step=100 protected_tokens=7 sweep_passes=0 violations=0 x",
    )
    assert rivals.says_nothing("nothing", "", row, 32) == "" == rivals.says_nothing(rivals.CANARY, counted, row, 32)
    assert "no sign" in rivals.says_nothing(rivals.CANARY_APART, "", row, 32)
    for text in ("install_canary: x", counted.replace("=7", "=0")):
        assert "no look" in rivals.says_nothing(rivals.CANARY, text, row, 32)
    assert rivals.says_nothing("nothing", "", row, 48) == "32 decoded at once, not 48"


def test_the_canarys_counts_are_read_in_its_own_words(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = pytest.importorskip("sglang.srt.kv_canary.runner.stats_logger")
    import torch

    # A server's own logging, which another test may have set up in this process, switches off those that are there.
    monkeypatch.setattr(logger.logger, "disabled", False)
    monkeypatch.setattr(logger.logger, "propagate", True)
    monkeypatch.setattr(logger.logger, "level", logging.INFO)
    monkeypatch.setattr(logger.logger, "parent", logging.getLogger())

    sweeps = SimpleNamespace(sweep_passes=3)
    given = {"config": None, "device_state": None, "active_tags": (1, 2), "outer_step_counter_getter": lambda: 0}
    said = logger.PeriodicCanaryStatsLogger(**given, sweep_orchestrator=sweeps, d2h_stream=None)
    readings = importlib.import_module("rival_readings")
    with caplog.at_level(logging.INFO):
        for step, looks, wrong in ((100, 9, 4), (900, 71_906_520, 35_699_154)):
            counts = {"slot_sum": torch.tensor([looks]), "write_index": torch.tensor([wrong])}
            said._postprocess_on_host({"step": step, **counts})
    found = readings.canary(caplog.text)
    assert found == {"step": 900, "looks": 71_906_520, "violations": 35_699_154}
    assert readings.said(found) == "35,699,154 violations of 71,906,520 looks by step 900 (49.6 %)"
    assert readings.canary("install_canary: on") is None and readings.of("") == {}


def test_the_forks_check_counts_where_it_would_stop(caplog: pytest.LogCaptureFixture) -> None:
    import torch

    clock, readings = importlib.import_module("step_clock"), importlib.import_module("rival_readings")
    check = clock.ForkCheck()
    pool = SimpleNamespace(get_kv_buffer=lambda layer: (torch.zeros(10 * 64, 1), None))
    backend, layer = SimpleNamespace(token_to_kv_pool=pool, page_size=64), SimpleNamespace(layer_id=4)
    with caplog.at_level(logging.WARNING):
        for number in range(2 * check.EVERY + 1):
            table = torch.tensor([[3, 9 + number % 2]])
            assert check.around(lambda *_, found=table: found, backend, layer, None) is table
    assert readings.fork_check(caplog.text) == {"looks": 400, "stops": 200}
    assert caplog.text.count("would stop here: page 10 >= 10 pages, layer 4") == 1 == caplog.text.count("check runs")
    assert readings.said({"looks": 400, "stops": 200}) == "would have stopped 200 of 400 looks"


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


def test_a_job_is_found_and_stopped_whole(tmp_path: Path) -> None:
    sanitized = importlib.import_module("sanitized")
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    job = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job.json")], start_new_session=True)

    def states() -> list[str]:
        found = [Path(f"/proc/{pid}/stat").read_text() for pid in sanitized.members(tmp_path)]
        return [text.rpartition(")")[2].split()[0] for text in found]

    try:
        end = time.monotonic() + 20
        while len(states()) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        sanitized.tell(sanitized.members(tmp_path), signal.SIGSTOP)
        while states() != ["T", "T"] and time.monotonic() < end:  # one that waits for a disk stops later
            time.sleep(0.1)
        assert states() == ["T", "T"]
        sanitized.tell(sanitized.members(tmp_path), signal.SIGCONT)
        while "T" in states() and time.monotonic() < end:
            time.sleep(0.1)
        assert "T" not in states() and sanitized.members(tmp_path / "other") == []
    finally:
        sanitized.tell(sanitized.members(tmp_path), signal.SIGKILL)
        job.wait()
