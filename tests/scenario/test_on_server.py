"""Server states without a server: what is started, what is kept, and what a cut-short run goes on from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.cli.main import run as run_command
from g4diag.errors import UsageError
from g4diag.model import LogEvent
from g4diag.patches.applying import lacking
from g4diag.scenario import Options
from g4diag.scenario.on_server import run_on_server
from g4diag.servers import child as server_child
from g4diag.servers import run as server_run
from g4diag.servers.run import Job, Result
from repro.hybrid_wrapper import SCENARIO as HYBRID
from repro.stale_out_cache_loc import SCENARIO as STALE
from repro.surfaced_elsewhere import SCENARIO as SURFACED
from repro.trtllm_mha_swa import SCENARIO as SEED
from tests.repro.conftest import silent

GPU = {"name": "NVIDIA H100", "capability": "9.0", "driver": "580"}


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Job]]:
    """Jobs as they come; each ends as expected of trtllm-mha-swa's states."""
    seen: list[Job] = []

    def ran(job: Job, stop: Event) -> Result:
        seen.append(job)
        job.folder.mkdir(parents=True)
        log = job.folder / "server.log"
        log.write_text("a line\nthe last line\n")
        dies = job.patches[:1] == ("faulty-rule",) and not {"clamp", "patch-e"} & set(job.patches)
        tokens = {} if dies else {0: (1, 2), 1: (3, len(job.patches) if "clamp" in job.patches else 0)}
        return Result(
            outcome="illegal-access" if dies else "finished",
            finished=len(tokens),
            requests=job.requests,
            seconds=50.0,
            start_seconds=40.0,
            status=0,
            error="CUDA error: an illegal memory access" if dies else "",
            log=log,
            tokens=tokens,
            swa_use=0.93,
            armed={"patches": [], "faults": [], "traps": [], "processes": 2},
            core=("kernel_mha",) if job.coredump else (),
        )

    monkeypatch.setattr(server_run, "run", ran)
    monkeypatch.setattr("g4diag.servers.gpu.require_gpu", lambda: GPU)
    yield seen


def test_every_state_runs_eager_and_with_graphs_each_as_its_file_says(jobs: list[Job], tmp_path: Path) -> None:
    outcome = run_on_server(SEED, Options(out=tmp_path, jobs=3), silent)
    assert outcome.as_expected and outcome.exit_code == 0 and outcome.faults == ("clamp", "faulty-rule")
    rows = [(r.state, r.path) for r in outcome.readings]
    assert rows == [(s, p) for p in ("eager", "graph") for s in ("upstream", "faulty", "clamp", "patch-e", "triton")]
    by_path = {job.folder.name: job for job in jobs}
    eager, graph = (by_path[f"trtllm-mha-swa-faulty-{path}-accepting"] for path in ("eager", "graph"))
    assert eager.engine["disable_cuda_graph"] and not graph.engine["disable_cuda_graph"]
    both, eager_only = lacking(["xqa-strided-query"]), lacking(["eager-draft-out-cache-loc"])
    assert eager.patches == ("faulty-rule", *both, *eager_only)
    assert graph.patches == ("faulty-rule", *both)
    assert len({job.engine["port"] for job in jobs}) == len(jobs)
    assert Path(eager.engine["model_path"], "config.json").is_file()


def test_equal_tokens_are_counted_against_the_first_state_that_finished(jobs: list[Job], tmp_path: Path) -> None:
    outcome = run_on_server(SEED, Options(out=tmp_path, path="graph"), silent)
    found = {r.state: outcome.same_tokens(r) for r in outcome.readings}
    same = {"clamp": ("upstream", 1, 2), "patch-e": ("upstream", 2, 2), "triton": ("upstream", 2, 2)}
    assert found == {"upstream": None, "faulty": None} | same


def test_a_run_into_the_same_folder_goes_on(jobs: list[Job], tmp_path: Path) -> None:
    run_on_server(SEED, Options(out=tmp_path, states=("faulty",)), silent)
    outcome = run_on_server(SEED, Options(out=tmp_path, states=("upstream", "faulty")), silent)
    assert outcome.as_expected and len(jobs) == 4
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["reading"]["state"] for line in lines] == ["faulty", "faulty", "upstream", "upstream"]
    assert "faulty/eager: illegal-access: CUDA error" in (tmp_path / "logs.txt").read_text()


def test_the_accepting_pair_is_written_and_its_results_kept_apart(jobs: list[Job], tmp_path: Path) -> None:
    once = Options(out=tmp_path, states=("upstream",), path="graph", pair="random")
    run_on_server(SEED, once, silent)
    outcome = run_on_server(SEED, replace(once, pair="accepting"), silent)
    assert [(job.pair, job.warm, job.engine["load_format"]) for job in jobs] == [
        ("random", 0, "dummy"),
        ("accepting", 2, "auto"),
    ]
    assert Path(jobs[1].engine["speculative_draft_model_path"], "model.safetensors").is_file()
    assert outcome.load["pair"] == "accepting"
    run_on_server(SEED, replace(once, pair="accepting"), silent)
    assert len(jobs) == 2
    with pytest.raises(UsageError, match="unknown model pair 'trained'; known: random, accepting"):
        run_on_server(SEED, replace(once, pair="trained"), silent)


def test_what_was_inconclusive_is_run_again(jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = server_run.run
    once = Options(out=tmp_path, states=("upstream",), path="eager")
    late = lambda job, stop: replace(honest(job, stop), outcome="timeout")  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(server_run, "run", late)
        outcome = run_on_server(SEED, once, silent)
    assert outcome.exit_code == 4 and outcome.readings[0].inconclusive
    (tmp_path / "servers" / "trtllm-mha-swa-upstream-eager-accepting" / "server.log").unlink()
    (tmp_path / "servers" / "trtllm-mha-swa-upstream-eager-accepting").rmdir()
    assert run_on_server(SEED, once, silent).exit_code == 0 and len(jobs) == 2


def test_a_server_that_should_have_died_is_exit_1(jobs: list[Job], tmp_path: Path) -> None:
    outcome = run_on_server(HYBRID, Options(out=tmp_path), silent)
    assert [r.state for r in outcome.readings if not r.as_expected] == ["upstream", "upstream"]
    assert outcome.exit_code == 1
    engines = {job.folder.name: job.engine for job in jobs}
    flag = "speculative_draft_attention_backend"
    assert flag not in engines["hybrid-wrapper-upstream-eager"] and flag not in engines["hybrid-wrapper-cure-graph"]
    assert engines["hybrid-wrapper-flag-eager"][flag] == "trtllm_mha"


def test_a_state_may_have_one_path_and_an_environment(jobs: list[Job], tmp_path: Path) -> None:
    run_on_server(STALE, Options(out=tmp_path, coredump=True), silent)
    found = {job.folder.name: dict(job.environment) for job in jobs}
    assert set(found) == {
        f"stale-out-cache-loc-{x}" for x in ("alone-eager", "cure-eager", "no-copy-eager", "graphs-graph")
    }
    assert found["stale-out-cache-loc-no-copy-eager"] == {"SGLANG_EAGER_INPUT_NO_COPY": "1"}
    assert all(job.coredump for job in jobs)


def test_an_interrupted_run_stops_its_servers_and_keeps_their_logs(
    tmp_path: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, stops = server_run.run, []

    def waits(job: Job, stop: Event) -> Result:
        if len(jobs):
            stops.append(stop.wait(20))
        return honest(job, stop)

    def interrupted(text: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server_run, "run", waits)
    with pytest.raises(KeyboardInterrupt):
        run_on_server(SEED, Options(out=tmp_path, path="graph"), interrupted)
    assert stops in ([], [True]), "none was started after it"
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == len(jobs) < 4


def test_the_command_prints_text_or_json_and_keeps_a_report(
    jobs: list[Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "repro",
        "trtllm-mha-swa",
        "--device",
        "cuda",
        "--path",
        "graph",
        "--jobs",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert run_command(arguments) == 0
    text = capsys.readouterr().out
    assert "5 servers, all as expected" in text and "fault states re-introduced: clamp, faulty-rule" in text
    assert "faulty/graph: CUDA error: an illegal memory access" in text and "2/2 as upstream" in text
    assert run_command([*arguments, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["version"]) == ("g4diag.repro-server", 1)
    assert document == json.loads((tmp_path / "report.json").read_text())
    assert document["readings"][3]["same_tokens"] == ["upstream", 2, 2]
    assert len(jobs) == 5, "the second command found all on record"


def test_without_a_gpu_it_cannot_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g4diag.servers.hardware.gpus", lambda: ())
    assert run_command(["repro", "hybrid-wrapper", "--device", "cuda"]) == 3
    captured = capsys.readouterr()
    assert "found none; --device cpu needs none" in captured.err and captured.err.count("\n") == 1
    assert run_command(["repro", "hybrid-wrapper", "--device", "cuda", "--state", "nope"]) == 2


def test_loads_begin_when_every_server_is_warm_or_over_and_one_at_a_time(tmp_path: Path) -> None:
    from concurrent.futures import Future
    from threading import Thread

    from g4diag.scenario.on_server import _open, _turns

    folders = [tmp_path / name for name in ("warm", "dead", "starting")]
    for folder in folders:
        folder.mkdir()
        (folder / "events.jsonl").write_text('{"event": "warm"}\n')
    turns = _turns(tmp_path, folders)
    assert not any((folder / "events.jsonl").exists() for folder in folders), "an earlier run's word does not count"
    running: list[Future[Any]] = [Future() for _ in folders]
    gate = Thread(target=_open, args=(turns, running, folders, 3), daemon=True)
    gate.start()
    (folders[0] / "events.jsonl").write_text('{"event": "warm"}\n')
    running[1].set_result(None)
    gate.join(1.2)
    assert gate.is_alive() and not (turns / "go").exists()
    (folders[2] / "events.jsonl").write_text('{"event": "warm"}\n')
    gate.join(5)
    assert (turns / "go").exists()
    inside: list[str] = []

    def load(name: str) -> None:
        with server_child.turn(str(turns)):
            inside.append(f"{name} in")
            time.sleep(0.2)
            inside.append(f"{name} out")

    loads = [Thread(target=load, args=(name,)) for name in "ab"]
    for thread in loads:
        thread.start()
    for thread in loads:
        thread.join(5)
    assert [word[0] for word in inside] in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


REPORTED = {
    "async": 'File "/site/sglang/srt/layers/attention/triton_backend.py", line 1605, in update_sliding_window_buffer',
    "blocking": 'File "/site/flashinfer/xqa.py", line 91, in xqa',
}


def test_a_state_is_as_expected_where_every_witness_it_asks_for_was_heard(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest, silenced = server_run.run, set[str]()

    def heard(job: Job, stop: Event) -> Result:
        state = job.folder.name.removeprefix("surfaced-elsewhere-").partition("-eager")[0]
        line = LogEvent("frame", REPORTED.get(state, REPORTED["async"]), "log:1", where="file.py:1")
        said = {
            "reported": line if job.patches[:1] == ("faulty-rule",) else None,
            "kernel": "kernel_mha" if job.coredump else "",
            "named": "page_table_stays_in_pool: layer 4" if "G4DIAG_TRAPS" in job.environment else "",
            "accept_log": ((2, 3.0), (8, 2.8), (8, 2.9)),
        }
        return replace(honest(job, stop), **said | dict.fromkeys(silenced & said.keys(), ""))

    monkeypatch.setattr(server_run, "run", heard)
    outcome = run_on_server(SURFACED, Options(out=tmp_path / "heard", path="eager"), silent)
    assert outcome.exit_code == 0 and [(r.state, r.surfaces) for r in outcome.readings] == [
        ("async", "elsewhere"),
        ("blocking", "at the launch"),
        ("coredump", "elsewhere"),
        ("trap", "elsewhere"),
        ("healthy", ""),
    ]
    assert {job.environment.get("CUDA_LAUNCH_BLOCKING") for job in jobs} == {None, "1"}
    run_command(["repro", "surfaced-elsewhere", "--path", "eager", "--out", str(tmp_path / "heard")])
    text = capsys.readouterr().out
    assert "surfaced elsewhere (file.py:1); the kernel that faulted is kernel_mha" in text
    assert "accept length in its log 2.85 with 8 running (2 lines)" in text
    silenced |= {"kernel", "named"}
    monkeypatch.setitem(REPORTED, "blocking", REPORTED["async"])
    outcome = run_on_server(SURFACED, Options(out=tmp_path / "silenced", path="eager"), silent)
    odd = {r.state: r.unheard or r.surfaces for r in outcome.readings if not r.as_expected}
    assert odd == {"blocking": "elsewhere", "coredump": "core dump", "trap": "trap"} and outcome.exit_code == 1
    run_command(["repro", "surfaced-elsewhere", "--path", "eager", "--out", str(tmp_path / "silenced")])
    text = capsys.readouterr().out
    assert "blocking/eager: wanted illegal-access at the launch, found illegal-access elsewhere" in text
    assert "trap/eager: wanted illegal-access and a trap that names it" in text


def test_a_scenario_of_the_device_alone_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("g4diag.servers.hardware.gpus", lambda: ())
    assert run_command(["repro", "surfaced-elsewhere"]) == 3
    said = capsys.readouterr().err
    assert said.endswith("found none\n") and said.count("\n") == 1
    assert run_command(["repro", "surfaced-elsewhere", "--device", "cpu"]) == 2
    assert "surfaced-elsewhere runs on cuda only" in capsys.readouterr().err
