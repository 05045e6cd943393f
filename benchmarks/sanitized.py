"""A server under `compute-sanitizer --tool memcheck`, which is stopped while others are timed (trap_rivals.py)."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import servers
from servers import Server
from trap_overhead import Config, Fleet, Shape

from g4diag.servers import run as server_run

SANITIZED = Config("compute-sanitizer memcheck, eager", eager=True, base="nothing, eager")


def members(folder: Path) -> list[int]:
    """Processes of the job in this folder: those of the session of whoever was started with its job.json."""
    wanted = str(folder / "job.json").encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "cmdline").read_bytes().split(b"\0"):
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                return [pid for pid, _ in server_run._members(session, "no mark")]
        except OSError:  # gone meanwhile
            continue
    return []


def tell(pids: list[int], what: signal.Signals) -> None:
    """Stop or go on, all of them."""
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            continue


@dataclass
class Sanitized:
    """The server under compute-sanitizer. paused: seconds in which it was stopped."""

    server: Server
    began: float
    paused: float = 0.0

    def pause(self) -> None:
        self._since = time.monotonic()
        tell(members(self.server.job.folder), signal.SIGSTOP)

    def go_on(self) -> None:
        tell(members(self.server.job.folder), signal.SIGCONT)
        self.paused += time.monotonic() - self._since

    def worked(self) -> float:
        """Seconds it had so far."""
        return time.monotonic() - self.began - self.paused

    def read(self, shape: Shape, new: int, end: float) -> dict[str, Any]:
        """One batch, or how far it came."""
        found: dict[str, Any] = {"config": SANITIZED.name, "base": SANITIZED.base, "new": new, "prompt": shape.prompt}
        server = self.server
        while time.monotonic() < end and server.is_alive() and not server.saw("ready"):
            time.sleep(0.5)
        if not (ready := server.saw("ready")):
            outcome = f"not ready in {self.worked():.0f} s" if server.is_alive() else f"died: {server.why()}"
            return found | {"outcome": outcome, "seconds": self.worked()}
        found |= {"ready_seconds": ready["at"]}
        order = f'{{"seed": 0, "requests": {shape.batch}, "prompt_tokens": {shape.prompt}, "new_tokens": {new}}}'
        before = servers.read_clock(server.clock)[0]
        (server.job.folder / "go-0.part").write_text(order)
        (server.job.folder / "go-0.part").rename(server.job.folder / "go-0.json")
        while time.monotonic() < end and server.is_alive() and not server.saw("measured", number=0):
            time.sleep(0.5)
        found |= servers.step_times(servers.read_clock(server.clock, before)[2], least=4)
        if server.saw("measured", number=0):
            outcome = "finished"
        else:
            outcome = f"not finished in {self.worked():.0f} s" if server.is_alive() else f"died: {server.why()}"
        errors = server.text().count("========= Invalid")
        return found | {"outcome": outcome, "seconds": self.worked(), "invalid_accesses": errors}


def sanitized(fleet: Fleet, shape: Shape, models: dict[str, str], tool: str, number: int) -> Sanitized:
    """Started. number: one that none of the fleet's own servers has."""
    config = replace(SANITIZED, environment={"TRAPBENCH_SANITIZER": tool})
    server = fleet._server(shape, config, models, number, 0.0)
    server.start()
    return Sanitized(server, time.monotonic())
