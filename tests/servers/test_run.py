"""One server, one process group, one result: whatever the server does, what is left is files and a word."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from threading import Event, Timer

import pytest

from g4diag.dump import core_dump
from g4diag.servers import plugin_site
from g4diag.servers import run as server_run
from g4diag.servers.child import prompts
from g4diag.servers.run import Job

# A stand-in for the child: it does what its first engine argument says.
CHILD = """
import json, os, subprocess, sys, time
job = json.load(open(sys.argv[-1]))
def note(**row):
    with open(job["events"], "a") as stream:
        stream.write(json.dumps({"at": 1.5} | row) + "\\n")
print('g4diag armed: {"faults": ["clamp"], "patches": [], "traps": []} pid=1', flush=True)
print('g4diag armed: {"faults": ["clamp"], "patches": [], "traps": []} pid=2', flush=True)
print("swa token usage: 0.93", flush=True)
note(event="ready")
for index in range(job["requests"]):
    note(event="finished", index=index, tokens=[index] * job["new_tokens"], meta={"spec_verify_ct": 1})
exec(job["engine"]["then"])
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs run CHILD in place of the real child, and write to this folder."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    monkeypatch.setattr(server_run, "COMMAND", (sys.executable, str(script)))
    return tmp_path / "job"


def job(folder: Path, then: str, **more: object) -> Job:
    values = {"patches": (), "seconds": 20.0, "requests": 2, "new_tokens": 3} | more
    return Job(engine={"then": then}, folder=folder, **values)  # type: ignore[arg-type]


def alive(folder: Path) -> bool:
    """Whether the process whose id was written down still runs."""
    stat = Path(f"/proc/{(folder / 'pid').read_text()}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_server_that_answers_is_finished_and_its_tokens_kept(stand_in: Path) -> None:
    result = server_run.run(job(stand_in, "note(event='stopped')"), Event())
    assert (result.outcome, result.finished, result.status, result.start_seconds) == ("finished", 2, 0, 1.5)
    assert result.tokens == {0: (0, 0, 0), 1: (1, 1, 1)}
    assert (result.swa_use, result.accept_length) == (0.93, 2.0)


def test_a_server_that_finished_with_wrong_tokens_is_told_from_one_that_is_right(stand_in: Path) -> None:
    """Where the pair has a right answer: each prompt of the accepting pair goes on in one way only."""
    from g4diag.stack.pairs.accepting_pair import task
    from g4diag.stack.pairs.tiny_pair import WINDOW

    asked = {"pair": "accepting", "prompt_tokens": 4 * WINDOW}
    wrong = server_run.run(job(stand_in, "pass", **asked), Event())
    assert wrong.outcome == "wrong-output" and wrong.finished == 2
    assert wrong.error.endswith(" of the output tokens are right") and wrong.on_task is not None and wrong.on_task < 1
    right = [task.continued(prompt, 3) for prompt in task.prompts(2, 4 * WINDOW, 0, WINDOW)]
    row = '{{"event": "finished", "at": 2, "index": {}, "tokens": {}, "meta": {{}}}}\\n'
    rows = "".join(row.format(index, list(map(int, tokens))) for index, tokens in enumerate(right))
    found = server_run.run(job(stand_in, f"open(job['events'], 'w').write('{rows}')", **asked), Event())
    assert (found.outcome, found.on_task, found.error) == ("finished", 1.0, "")


def test_one_that_hangs_while_it_leaves_is_not_waited_for(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_run, "LEAVING_SECONDS", 0.5)
    start = time.monotonic()
    result = server_run.run(job(stand_in, "note(event='info', internal={}); time.sleep(60)"), Event())
    assert result.outcome == "finished" and time.monotonic() - start < 10


def test_orphans_of_a_dead_server_are_killed(stand_in: Path) -> None:
    """One that only shares the session, and one that left it and is known by its environment."""
    for setsid in ("False", "True"):
        child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=" + setsid
        then = (
            f"p = {child}); open({str(stand_in / 'pid')!r}, 'w').write(str(p.pid)); print('IndexError: x out of range')"
        )
        result = server_run.run(job(stand_in, f"{then}; os._exit(1)", requests=0, new_tokens=0), Event())
        assert result.status == 1 and not alive(stand_in)


def test_a_death_by_time_limit_or_stop_is_a_timeout(stand_in: Path) -> None:
    silent = "os.remove(job['events']); time.sleep(60)"
    assert server_run.run(job(stand_in, silent, seconds=1.5), Event()).outcome == "timeout"
    start = time.monotonic()
    assert server_run.run(job(stand_in, silent), _set_later(1.5)).outcome == "timeout"
    assert time.monotonic() - start < 10


def test_patches_that_were_not_armed_are_no_result(stand_in: Path) -> None:
    result = server_run.run(job(stand_in, "note(event='stopped')", patches=("faulty-rule",)), Event())
    assert result.outcome == "other-error" and "missing faulty-rule" in result.error
    assert server_run.run(job(stand_in, "note(event='stopped')", patches=("clamp",)), Event()).outcome == "finished"


def test_the_environment_has_the_job_and_nothing_that_drives_a_cpu(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G4DIAG_TRAPS", "all")
    assert os.environ["TRITON_INTERPRET"] == "1", "the tests' own"
    then = "json.dump(dict(os.environ), open(job['events'] + '.env', 'w')); note(event='stopped')"
    wanted = {"SOME": "thing"}
    server_run.run(job(stand_in, then, patches=("clamp",), coredump=True, environment=wanted), Event())
    found = json.loads((stand_in / "events.jsonl.env").read_text())
    assert found["G4DIAG_PATCHES"] == "clamp" and found["SGLANG_PLUGINS"] == "g4diag" and found["SOME"] == "thing"
    assert "TRITON_INTERPRET" not in found and "G4DIAG_TRAPS" not in found
    assert found["CUDA_ENABLE_COREDUMP_ON_EXCEPTION"] == "1"
    assert found["CUDA_COREDUMP_GENERATION_FLAGS"].count("skip_") == 5
    assert found["CUDA_COREDUMP_FILE"].startswith(str(stand_in))


def test_a_core_dump_is_read_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_run.read_core(tmp_path) == ("no core dump was written",)
    (tmp_path / "core.17").write_bytes(b"x" * 2_000_000)
    monkeypatch.setattr(core_dump.shutil, "which", lambda name: None)
    assert server_run.read_core(tmp_path) == ("core.17: 2 MB", "no cuda-gdb to read it with")
    gdb = tmp_path / "cuda-gdb"
    gdb.write_text('#!/bin/sh\necho "$@"\necho kernel_mha\n')
    gdb.chmod(0o755)
    monkeypatch.setattr(core_dump.shutil, "which", lambda name: str(gdb))
    (_, arguments, kernel) = server_run.read_core(tmp_path)
    assert "target cudacore" in arguments and "info cuda kernels" in arguments and kernel == "kernel_mha"


def test_prompts_are_the_seeds_and_keep_off_the_special_ids() -> None:
    assert prompts(3, 2, 50, 100) == prompts(3, 2, 50, 100) != prompts(4, 2, 50, 100)
    assert {8 <= token < 84 for row in prompts(0, 3, 200, 100) for token in row} == {True}


def test_without_an_install_the_plugin_is_found_by_a_dist_info(tmp_path: Path) -> None:
    site = plugin_site.write_dist_info(tmp_path / "site")
    (found,) = [entry for each in metadata.distributions(path=[str(site)]) for entry in each.entry_points]
    assert (found.group, found.name, found.value) == ("sglang.srt.plugins", "g4diag", "g4diag.plugin:register")
    program = "from importlib.metadata import entry_points as e; e(group='sglang.srt.plugins')['g4diag'].load()"
    environment = {"PYTHONPATH": f"{site}{os.pathsep}{plugin_site.ROOT}", "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)


def _set_later(seconds: float) -> Event:
    event = Event()
    Timer(seconds, event.set).start()
    return event


def test_a_server_ends_with_who_started_it_and_was_killed(tmp_path: Path) -> None:
    """By SIGKILL it can end nothing by itself. The child is the real one's way in, over no engine."""
    child, parent, pid = tmp_path / "child.py", tmp_path / "parent.py", tmp_path / "pid"
    child.write_text(f"""
import os, sys, time
from g4diag.servers.child import noted
with noted(sys.argv[-1]):
    open({str(pid)!r}, "w").write(str(os.getpid()))
    time.sleep(100)
""")
    parent.write_text(f"""
import sys
from pathlib import Path
from threading import Event
from g4diag.servers import run
run.COMMAND = (sys.executable, {str(child)!r})
run.run(run.Job(engine={{}}, patches=(), folder=Path({str(tmp_path / "job")!r}), seconds=90.0), Event())
""")
    running = subprocess.Popen([sys.executable, str(parent)])
    try:
        end = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()) and time.monotonic() < end:
            time.sleep(0.1)
        assert alive(tmp_path)
        running.kill()
        running.wait(60)
        end = time.monotonic() + 20
        while alive(tmp_path) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(tmp_path)
    finally:
        running.kill()
        with contextlib.suppress(ProcessLookupError, ValueError, OSError):
            os.kill(int(pid.read_text()), signal.SIGKILL)
