"""What a user would pick in place of traps, beside nothing, on one shape and load: decode step of the tiny pair.

    bash tools/on_gpu.sh exec python3 benchmarks/trap_rivals.py --time-limit 250

trap_overhead.py's servers and rounds: all are up before anything is timed and sleep while another is. With graphs: all
traps, async asserts, CUDA_LAUNCH_BLOCKING=1. Eager: the fork's host check. Without the draft, which it does not know:
`--kv-canary log`. Each ratio is against nothing of the same path in the same round.
`compute-sanitizer --tool memcheck` is one more server, eager and with the draft: it starts beside the others, is
stopped while they are timed, and has what is left of the time for one batch of few steps. It sees what leaves an
allocation; a pool is one allocation. What it does not get done in its seconds is said.
Writes $OUT/trap_rivals.json after every reading. Exit 1 when nothing was read of one that was to be timed, or its log
has no sign that it was on; the sanitizer and the canary may fail, and then say why.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import servers
from servers import Server
from trap_overhead import SHAPES, Config, Fleet, Shape, summary

from g4diag.servers import run as server_run

CANARY = "--kv-canary log, no draft"
CONFIGS = (
    Config("nothing"),
    Config("all traps", traps="all"),
    Config("SGLANG_ENABLE_ASYNC_ASSERT=1", {"SGLANG_ENABLE_ASYNC_ASSERT": "1"}),
    Config("CUDA_LAUNCH_BLOCKING=1", {"CUDA_LAUNCH_BLOCKING": "1"}),
    Config("nothing, eager", eager=True, base="nothing, eager"),
    Config("fork's host check, eager", {"TRAPBENCH_FORK_CHECK": "1"}, eager=True, base="nothing, eager"),
    Config("nothing, no draft", base="nothing, no draft", drafted=False),
    Config(CANARY, base="nothing, no draft", drafted=False, engine={"kv_canary": "log"}),
)
MAY_FAIL = (CANARY,)
# What a log must hold of one that was on.
SIGNS = {"fork's host check, eager": "g4bench: the fork's check runs", CANARY: "install_canary:"}
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
        found: dict[str, Any] = {"config": SANITIZED.name, "base": SANITIZED.base, "new": new}
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


def sanitized(fleet: Fleet, shape: Shape, models: dict[str, str], tool: str) -> Sanitized:
    """Started."""
    number = len(shape.configs)
    config = replace(SANITIZED, environment={"TRAPBENCH_SANITIZER": tool})
    server = fleet._server(shape, config, models, number, 0.0)
    server.start()
    return Sanitized(server, time.monotonic())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="at most; as many as the time limit allows")
    parser.add_argument("--time-limit", type=float, default=250.0)
    parser.add_argument("--only", default="", help="names of configurations, ; between")
    parser.add_argument("--no-sanitizer", action="store_true")
    parser.add_argument("--sanitizer", default=shutil.which("compute-sanitizer", path="/usr/local/cuda/bin"))
    parser.add_argument("--sanitizer-new", type=int, default=12, help="tokens a request under it")
    parser.add_argument("--sanitizer-seconds", type=float, default=60.0, help="kept for it after the others")
    parser.add_argument("--stagger", type=float, default=1.0)
    options = parser.parse_args()
    kept = tuple(c for c in CONFIGS if not options.only or c.name in options.only.split(";"))
    shape = replace(SHAPES["tiny"], name="rivals", configs=kept)
    servers.own_child()
    servers.clock_plugin(Path(tempfile.mkdtemp(prefix="g4-rivals-site-")))
    models = servers.tiny_models(Path(tempfile.mkdtemp(prefix="g4-rivals-")))
    fleet = Fleet(options)
    fleet.out = "trap_rivals"
    checked = None
    if options.sanitizer and not options.no_sanitizer:
        checked = sanitized(fleet, shape, models, options.sanitizer)
    fleet.start(shape, models)
    for_later = options.sanitizer_seconds if checked else 5.0
    fleet.wait_ready(shape, time.monotonic() + max(1.0, fleet.left() - for_later - 50))
    if checked:
        checked.pause()
    last = 0.0
    for number in range(options.rounds):
        begun = time.monotonic()
        if number and fleet.left() < 1.2 * last + for_later:
            break
        for config in shape.configs[:: -1 if number % 2 else 1]:
            if fleet.left() > for_later:
                fleet.measure(shape, config, number)
        last = time.monotonic() - begun
    servers.stop_all(fleet.servers.values(), 10)
    if checked:
        checked.go_on()
        fleet.more["sanitizer"] = checked.read(shape, options.sanitizer_new, time.monotonic() + fleet.left() - 8)
        servers.stop_all([checked.server], 5)
    elif not options.no_sanitizer:
        fleet.more["sanitizer"] = {"config": SANITIZED.name, "outcome": "not run: no compute-sanitizer was found"}
    fleet.write()
    return show(fleet, [*fleet.servers.values(), *([checked.server] if checked else [])])


def show(fleet: Fleet, started: list[Server]) -> int:
    """Print the table; 1 if one that was to be timed was not."""
    rows = summary(fleet.readings)
    columns = ("config", "batch", "rounds", "steps", "step_us", "ratio", "ratio_low", "ratio_high")
    servers.show(columns, [[row.get(column, "-") for column in columns] for row in rows])
    timed = {row["config"]: row["step_us"] for row in rows if row.get("step_us")}
    if found := fleet.more.get("sanitizer"):
        slower = found.get("median_us", 0) / timed[SANITIZED.base] if timed.get(SANITIZED.base) else 0
        said = f", step {found['median_us']:.0f} us, {slower:.1f} times" if slower else ""
        print(f"{SANITIZED.name}: {found['outcome']}{said}, {found.get('invalid_accesses', '-')} invalid accesses")
    for server in fleet.servers.values():
        name = server.name.partition("/")[2]
        if name not in timed:
            print(f"{name}: no figure: {server.why()}")
    servers.write_tails(f"{fleet.out}-logs.txt.gz", started, 60)
    unseen = [key[1] for key, server in fleet.servers.items() if SIGNS.get(key[1], "") not in server.text()]
    for name in unseen:
        print(f"{name}: no sign in its log that it was on: its figure says nothing")
    missing = [name for _, name in fleet.servers if name not in MAY_FAIL and (name not in timed or name in unseen)]
    return 1 if missing or not timed else 0


if __name__ == "__main__":
    sys.exit(main())
