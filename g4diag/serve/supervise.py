"""Run the real server as a child: signals forwarded, exit code kept, and arming watched in every process of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from g4diag.guard import guard
from g4diag.isolated import environment, module
from g4diag.serve import device
from g4diag.serve.crash_evidence import CrashEvidence
from g4diag.serve.plan import Plan, with_run_dir
from g4diag.serve.preflight import PROGRAM as PREFLIGHT
from g4diag.serve.preflight import Checked, preflight
from g4diag.serve.sessions import kill_rest, members
from g4diag.servers import hardware
from g4diag.servers.parent import end_with_parent
from g4diag.settings import dump_dir
from g4diag.stack import entry_points
from g4diag.stack.live import records
from g4diag.stack.live import sink as live

SERVER = tuple(module(entry_points.SERVER))
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The rest would end us and leave the server behind. It may know them; one that it dies of is told like any death.
FORWARDED = (*_STOPS, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_POLL, _GRACE = 0.25, 20.0  # seconds: between two looks at the child; between asking it to stop and killing it
_LEAVE = 2.0  # seconds that the rest of a server's session has, once its leader is dead
_SCHEDULER = b"sglang::scheduler"
Say = Callable[[str], None]


def run(plan: Plan, say: Say, *, server: Sequence[str] = SERVER, checker: Sequence[str] = PREFLIGHT) -> int:
    """Preflight, announce, serve; the exit code. CannotRunError before anything is started if arming fails, or
    if sglang would find no device."""
    if tuple(server) == tuple(SERVER):
        device.require(plan.arguments, plan.environ)
    checked = Checked({"patches": [], "faults": [], "traps": []}, [], [])
    if plan.arms:
        if sys.stderr is not None and sys.stderr.isatty():  # it takes seconds; a refusal stays one line in a log
            say("trying what is asked for on the installed sglang, before the server is started")
        checked = preflight(plan.environ, checker)
        for problem in checked.problems:
            say(f"WARNING: not in force: {problem}")
    _announce(plan, checked, say)
    with tempfile.TemporaryDirectory(prefix="g4diag-run-") as folder:
        armed = with_run_dir(plan, Path(folder))
        command = [*server, *plan.arguments]
        evidence = CrashEvidence(armed.environ, Path(folder), plan.watches, say, command)
        return Supervisor(command, armed.environ, Path(folder), say, must_arm=plan.arms, evidence=evidence).run()


def _announce(plan: Plan, checked: Checked, say: Say) -> None:
    manifest = checked.manifest
    say(f"armed: {json.dumps(manifest, sort_keys=True)}")
    if manifest["faults"]:
        say(f"FAULT STATE PUT BACK ON PURPOSE, do not serve with this: {', '.join(manifest['faults'])}")
    if manifest["traps"] or checked.not_armed:
        left_out = "; ".join(checked.not_armed) or "none of those asked for"
        say(f"watched: {', '.join(manifest['traps'])}; not watched: {left_out}")
    if manifest["traps"]:
        where = dump_dir(environ=plan.environ)
        metrics = "; metrics on sglang's /metrics" if plan.serves_metrics else ""
        say(f"{live.DEVICE_REACH if hardware.gpus() else live.REACH}; dumps go to {where}{metrics}")
    for row in plan.hazards:
        cured = f"cured by {row.cured_by}" if row.cured_by else "NOT CURED"
        ways = f"; instead: {', or '.join(row.ways)}" if row.ways and not row.cured_by else ""
        say(f"known-bad combination, {cured}: {row.name}: {row.found}{ways}")
    for remark in plan.remarks:
        say(f"note: {remark}")


class _Stopped(BaseException):
    """We were told to stop while we read what a dead server left. Says by which signal."""


class Supervisor:
    """One server. must_arm: a process of it that is not armed stops it. evidence: what to do when it died."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        run_dir: Path,
        say: Say,
        *,
        must_arm: bool,
        evidence: CrashEvidence,
    ) -> None:
        self._command, self._environ, self._run_dir, self._say = list(command), dict(environ), run_dir, say
        self._must_arm, self._evidence = must_arm, evidence
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._is_over = False

    def run(self) -> int:
        """The server's exit code, 128+n if signal n killed it; 1 if a process of it could not be armed."""
        with self._signals():
            with self._evidence.output() as (out, err):
                child = self._child = self._start(out, err)
                keeper = self._evidence.keeper(self._run_dir)
                with guard("starting the keeper"):
                    keeper.watch(child.pid)
                for number in self._early:
                    child.send_signal(number)
                if complaint := self._watch(child):
                    self._say(complaint)
                    self._stop(child)
                    keeper.over()
                    return 1
                if child.returncode and (left := kill_rest(child.pid, _LEAVE)):
                    self._say(f"{left} processes of the dead server were left, and are killed")
            code = child.returncode
            self._tell(code)
            keeper.over()
        return 128 - code if code < 0 else code

    def _tell(self, code: int) -> None:
        """The post-mortem. Who tells us to stop meanwhile is not kept waiting for it."""
        try:
            self._is_over = True
            self._evidence.ended(code)
        except _Stopped as stop:
            self._evidence.interrupted(code, f"told to stop ({stop}) before what it left was read")
        finally:
            self._is_over = False

    def _start(self, out: int | None, err: int | None) -> subprocess.Popen[bytes]:
        # A session of its own: a terminal's Ctrl-C then reaches the server once, through us.
        return subprocess.Popen(
            self._command,
            env=environment(self._environ),
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        )

    def _watch(self, child: subprocess.Popen[bytes]) -> str | None:
        """Until the child ends, or until what is wrong with its arming is found."""
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_POLL)
            if complaint := self._complaint(child.pid, child.returncode):
                return complaint
            if child.returncode is not None:
                return None
            self._evidence.saw(set(schedulers(child.pid)))

    def _complaint(self, session: int, code: int | None) -> str | None:
        spoken = records.read(self._run_dir)
        for record in spoken:
            if record.state == "failed":
                return f"NOT ARMED in {record.process} (pid {record.pid}), server stopped: {record.error}"
        if not self._must_arm:
            return None
        armed = {record.pid for record in spoken if record.state == "armed"}
        for pid in schedulers(session) if code is None else []:
            if pid not in armed:
                return f"NOT ARMED in the scheduler (pid {pid}), server stopped: it never loaded the plugin"
        if code == 0 and not armed:
            return "NOT ARMED: no process of the server loaded the plugin"
        return None

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        """Ask, wait, then kill whatever is left of its session."""
        if child.poll() is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE)
        deadline = time.monotonic() + _POLL
        while time.monotonic() < deadline and members(child.pid):
            time.sleep(_POLL / 10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            self._is_over = False
            if number in _STOPS:
                raise _Stopped(signal.Signals(number).name)
            return
        if number in _STOPS:
            self._evidence.asked()
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        # One that is ignored (nohup) stays ignored; the server inherits that.
        ours = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._forward) for number in ours}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def schedulers(session: int) -> list[int]:
    """Scheduler processes of a session: sglang names them after it has loaded plugins, so these have been asked."""
    return [pid for pid, title in members(session).items() if title.startswith(_SCHEDULER)]
