"""One state of a scenario on one real sglang server, in a process group of its own, under a time limit.

The server may die any way it likes, with a CUDA context that poisons whatever shares its process; here only files
are read. Afterwards nothing of it is left: every process that carries this run's mark in its environment is killed,
and its temporary files (sglang's sockets among them) go with their directory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from g4diag.dump import core_dump, server_log
from g4diag.isolated import module
from g4diag.model import LogEvent, surfaced_at
from g4diag.servers import coredump, crash_log, plugin_site
from g4diag.servers import load_metrics as served
from g4diag.stack.drive.cpu import ENVIRONMENT as CPU_ONLY

MARK = "SGLANG_RUN_BY_G4DIAG"
COMMAND = tuple(module("g4diag.servers.child"))
LEAVING_SECONDS, DYING_SECONDS, DUMPING_SECONDS = 15.0, 20.0, 90.0


@dataclass(frozen=True)
class Job:
    """What to start and what to send it. engine: arguments of sglang's Engine. patches: armed in every process of
    the server. folder: gets server.log, events.jsonl, job.json and the core dump. seconds: until it is killed.
    pair: "random" or "accepting", which decides what the prompts are. warm: prompts sent before those that count.
    turns: a folder shared by servers that are sent their load one at a time, see `server_child.turn`."""

    engine: Mapping[str, Any]
    patches: tuple[str, ...]
    folder: Path
    seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    requests: int = 24
    prompt_tokens: int = 4000
    new_tokens: int = 128
    vocab: int = 2048
    pair: str = "random"
    warm: int = 0
    coredump: bool = False
    turns: Path | None = None


@dataclass(frozen=True)
class Result:
    """What came of it. outcome: see `crash_log.classify`; "wrong-output" of a server that finished, where the pair has
    a right answer and not every token is it. finished: requests that came back whole. tokens: their
    output ids by request. error: the line that says it, "" if none. status: exit status, negative for a signal.
    start_seconds: until the engine was ready, None if it never was. swa_use: highest in the log, 0..1.
    accept_length, output_rate, tpot_ms, on_task: see `served`; rates only after a warm-up.
    core: what cuda-gdb says of the core dump. reported: the log's line of the innermost Python line of the error.
    kernel: what faulted, by the core dump. named, accept_log: see `crash_log`."""

    outcome: str
    finished: int
    requests: int
    seconds: float
    start_seconds: float | None
    status: int | None
    error: str
    log: Path
    tokens: Mapping[int, tuple[int, ...]]
    swa_use: float | None = None
    accept_length: float | None = None
    output_rate: float | None = None
    tpot_ms: float | None = None
    on_task: float | None = None
    armed: Mapping[str, Any] = field(default_factory=dict)
    core: tuple[str, ...] = ()
    reported: LogEvent | None = None
    kernel: str = ""
    named: str = ""
    accept_log: tuple[tuple[int, float], ...] = ()


def run(job: Job, stop: Event) -> Result:
    """Start, wait, clean up, read. Never raises for what the server does. stop: set it to end the server early."""
    job.folder.mkdir(parents=True, exist_ok=True)
    log, events = job.folder / "server.log", job.folder / "events.jsonl"
    for stale in (log, events):
        stale.unlink(missing_ok=True)
    mark = uuid.uuid4().hex
    # Short, and under /tmp: sglang's ipc sockets live here, and a socket's path has 107 characters at most.
    scratch = Path(tempfile.mkdtemp(prefix="g4d-", dir="/tmp"))
    started = time.time()
    process = _start(job, log, events, mark, scratch, started)
    try:
        timed_out = _wait(process, job, log, events, stop)
    finally:
        seconds = time.time() - started
        kill_all(process.pid, mark)
        shutil.rmtree(scratch, ignore_errors=True)
    return _read(job, log, events, process.wait(), timed_out, seconds)


def _start(job: Job, log: Path, events: Path, mark: str, scratch: Path, started: float) -> subprocess.Popen[bytes]:
    job_file = job.folder / "job.json"
    job_file.write_text(
        json.dumps(
            {
                "engine": dict(job.engine),
                "events": str(events),
                "started": started,
                "seed": job.seed,
                "requests": job.requests,
                "prompt_tokens": job.prompt_tokens,
                "new_tokens": job.new_tokens,
                "vocab": job.vocab,
                "pair": job.pair,
                "warm": job.warm,
                "turns": None if job.turns is None else str(job.turns),
            }
        ),
        encoding="utf-8",
    )
    with log.open("wb") as stream:
        return subprocess.Popen(
            [*COMMAND, str(job_file)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=_environment(job, mark, scratch),
            cwd=scratch,
            start_new_session=True,
        )


def _environment(job: Job, mark: str, scratch: Path) -> dict[str, str]:
    # What drives the classes on the CPU would wreck a server on a GPU, and our own settings are the job's alone.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("G4DIAG_") and k not in CPU_ONLY}
    site = plugin_site.python_path(job.folder / "site")
    more = {
        "PYTHONPATH": os.pathsep.join([*site, *filter(None, [kept.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(scratch),
        "SGLANG_PLUGINS": plugin_site.NAME,
        "G4DIAG_PATCHES": ",".join(job.patches) or "none",
        MARK: mark,
    }
    core = coredump.environment(job.folder) if job.coredump else {}
    return kept | more | core | dict(job.environment)


def _wait(process: subprocess.Popen[bytes], job: Job, log: Path, events: Path, stop: Event) -> bool:
    """Until it is over; True: the time limit was. A server that served everything is not waited for while it shuts
    down, nor for long one that said what killed it."""
    end = time.monotonic() + job.seconds
    leave = None
    while (now := time.monotonic()) < end:
        if process.poll() is not None or (leave is not None and now > leave):
            return False
        if leave is None:
            if any(row["event"] in ("info", "stopped") for row in read_events(events)):
                leave = now + LEAVING_SECONDS
            elif log.exists() and crash_log.fatal(log.read_text(encoding="utf-8", errors="replace")):
                leave = now + (DUMPING_SECONDS if job.coredump else DYING_SECONDS)
        if stop.wait(0.5):
            break
    return True


def kill_all(session: int, mark: str) -> None:
    """SIGKILL every process of this session, and any other whose environment carries this run's mark (both: a
    process may leave the session, and one that sets its title overwrites its environment). Shared-memory trackers
    get a moment: they unlink what the dead left behind, then leave by themselves."""
    for grace in (1.0, 0.3, 0.3):
        found = list(_members(session, mark))
        if not found:
            return
        for pid, is_tracker in found:
            if not (is_tracker and grace == 1.0):
                _kill(pid)
        time.sleep(grace)


def _members(session: int, mark: str) -> Iterator[tuple[int, bool]]:
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            # Past the command name, which may hold anything: state, parent, group, session.
            state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            ours = int(its_session) == session or wanted in (entry / "environ").read_bytes().split(b"\0")
            if ours and state != "Z":
                yield int(entry.name), b"resource_tracker" in (entry / "cmdline").read_bytes()
        except OSError:  # gone meanwhile
            continue


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def read_events(events: Path) -> list[dict[str, Any]]:
    """The child's lines so far; a torn last one is left out."""
    rows = []
    if events.exists():
        for line in events.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def _read(job: Job, log: Path, events: Path, status: int | None, timed_out: bool, seconds: float) -> Result:
    rows = read_events(events)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    done = {row["index"]: tuple(row["tokens"]) for row in rows if row["event"] == "finished"}
    whole = {index: ids for index, ids in done.items() if len(ids) == job.new_tokens}
    raised = next((row["error"] for row in rows if row["event"] == "error"), "")
    armed = crash_log.armed(text)
    outcome, error = crash_log.classify(text, raised, complete=len(whole) == job.requests, timed_out=timed_out)
    if (problem := _arming_problem(job, armed)) and outcome not in ("other-error", "timeout"):
        outcome, error = "other-error", problem
    right = served.on_task(whole, job.seed, job.requests, job.prompt_tokens) if job.pair == "accepting" else None
    if outcome == "finished" and right is not None and right < 1.0:
        outcome, error = "wrong-output", f"{right:.1%} of the output tokens are right"
    core = read_core(job.folder) if job.coredump else ()
    faults = core_dump.faults(core, "core")
    return Result(
        outcome=outcome,
        finished=len(whole),
        requests=job.requests,
        seconds=seconds,
        start_seconds=next((row["at"] for row in rows if row["event"] == "ready"), None),
        status=status,
        error=error,
        log=log,
        tokens=whole,
        swa_use=crash_log.peak(text, "swa token usage"),
        accept_length=served.accept_length(rows),
        output_rate=served.output_rate(rows) if job.warm else None,
        tpot_ms=served.tpot_ms(rows) if job.warm else None,
        on_task=right,
        armed=armed,
        core=core,
        reported=None if len(whole) == job.requests else surfaced_at(server_log.events_of(text.splitlines(), log.name)),
        kernel=faults[0].kernel.partition("(")[0] if faults else "",
        named=crash_log.named(text),
        accept_log=crash_log.accept_lengths(text),
    )


def _arming_problem(job: Job, armed: Mapping[str, Any]) -> str:
    """sglang swallows what a plugin raises, so a server may run without the patches it was asked to have."""
    if not job.patches:
        return ""
    missing = sorted(set(job.patches) - set(armed.get("patches", ())) - set(armed.get("faults", ())))
    if missing:
        return f"patches were not armed: wanted {', '.join(job.patches)}, missing {', '.join(missing)}"
    if armed.get("processes", 0) < 2:  # the engine's own, and the scheduler's, which is the one that counts
        return f"patches were armed in {armed.get('processes', 0)} process, wanted the engine and its scheduler"
    return ""


def read_core(folder: Path) -> tuple[str, ...]:
    """What `cuda-gdb` says of the newest core dump in `folder`; one line saying why not otherwise."""
    cores = sorted(folder.glob("core.*"), key=lambda path: path.stat().st_mtime)
    if not cores:
        return ("no core dump was written",)
    size = f"{cores[-1].name}: {cores[-1].stat().st_size / 1e6:.0f} MB"
    return (size, *core_dump.says(cores[-1], seconds=90))
