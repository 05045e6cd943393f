"""What is left of a server that died unseen: gathered into one file, with the most likely cause.

Reads files only: the flight recorders of this run's processes, verdicts that traps left in the run directory, the
log that `serve` kept, core dumps. sglang ends itself with SIGKILL when a child of it died, so the log and the
children come before the server's own exit.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g4diag.atomic_write import token
from g4diag.dump import core_dump, postmortem
from g4diag.dump.postmortem import CoreDump, PostMortem, RingFile, Verdict
from g4diag.dump.ring import SUFFIX, Ring, read_ring
from g4diag.dump.secrets import masked
from g4diag.dump.torch_zip import read_bytes
from g4diag.errors import G4DiagError
from g4diag.guard import guard
from g4diag.hooks.versions import installed
from g4diag.model import Grade
from g4diag.servers import crash_log
from g4diag.stack.live import records

CAUSES = (
    *("illegal-access", "index-error", "size-mismatch", "oom-kill"),
    *("killed", "abort", "segfault", "bus-error", "other-error", "supervisor-died", "unknown"),
)
TAIL_RECORDS, _LOG_LINES, LINE, _VERDICT_BYTES = 256, 200, 1000, 64 << 10
_BY_SIGNAL = {
    signal.SIGKILL: "killed",
    signal.SIGABRT: "abort",
    signal.SIGSEGV: "segfault",
    signal.SIGBUS: "bus-error",
}
_CHILD = re.compile(r"(?:crashed with exit code|terminated with) -(\d+)")


@dataclass(frozen=True)
class End:
    """How a server ended. status: as Popen's. schedulers_gone: pids that vanished before it, unasked.
    oom_kills: in our control group meanwhile; None where that cannot be told."""

    status: int
    started: float
    asked: bool = False
    schedulers_gone: tuple[int, ...] = ()
    oom_kills: int | None = None

    @property
    def signal(self) -> str:
        """The name of the signal that ended it, "" if none did."""
        if self.status >= 0:
            return ""
        return signal.Signals(-self.status).name if -self.status in set(signal.Signals) else f"signal {-self.status}"

    @property
    def is_a_death(self) -> bool:
        """Whether there is anything to explain. One that was told to stop may end as it likes, short of a fault."""
        if self.asked:
            return bool(self.schedulers_gone) or -self.status in (4, 6, 7, 11)
        return self.status != 0


def gather(end: End, dump_dir: Path, run_dir: Path, environ: Mapping[str, str], log: str, log_file: str) -> PostMortem:
    """Everything there is. log: the end of it; log_file: its name, "" if none was kept."""
    spoken = records.read(run_dir)
    rings = _rings(dump_dir, {record.pid for record in spoken}, end.started, run_dir.name)
    cause, line, grade = cause_of(end, log, [ring for _, ring in rings])
    return PostMortem(
        *(cause, masked(line[: LINE * 4]), grade, end.status, end.signal),
        written=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=int(time.time() - end.started),
        asked=end.asked,
        schedulers_gone=end.schedulers_gone,
        oom_kills=end.oom_kills,
        flags=tuple(environ.get("G4DIAG_EXPLICIT_FLAGS", "").split(",")),
        manifest=next((record.manifest for record in spoken if record.manifest), {}),
        versions={name: version for name, version in installed().items() if version},
        rings=tuple(
            RingFile(
                *(path.name, ring.pid, ring.process, ring.started_ns, ring.skipped, ring.missing),
                records=ring.records[-TAIL_RECORDS:],
                started_mono_ns=ring.started_mono_ns,
            )
            for path, ring in rings
        ),
        verdicts=_verdicts(run_dir),
        cores=_cores(dump_dir, environ, end.started),
        log=log_file or None,
        log_tail=tuple(masked(line[:LINE]) for line in crash_log.tail(log, _LOG_LINES)),
    )


def write(found: PostMortem, dump_dir: Path) -> Path:
    """Into the dump directory, under a name of this moment."""
    stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09d}"
    return postmortem.write(found, dump_dir / f"postmortem-{stamp}-{token()}.json")


def said_in_one_line(found: PostMortem, path: Path) -> str:
    """Greppable key=value; no value holds a blank but the last."""
    marks = [record for ring in found.rings for record in ring.records]
    fields = {
        "file": str(path).replace(" ", "_"),
        "cause": found.cause,
        "grade": found.grade,
        "status": found.status,
        "signal": found.signal,
        "schedulers_gone": ",".join(map(str, found.schedulers_gone)),
        "last_step": max((record.step for record in marks), default=-1),
        "rings": len(found.rings),
        "verdicts": len(found.verdicts),
        "cores": len(found.cores),
        "log": found.log,
    }
    said = (f"{key}={value}" for key, value in fields.items() if value not in (None, ""))
    return f'postmortem {" ".join(said)} line="{found.line[:300]}"'


def cause_of_signal(end: End) -> str:
    """One of CAUSES, by the server's own exit alone."""
    number = _signal(-end.status)
    return _BY_SIGNAL.get(number, "unknown") if number else "unknown"


def cause_of(end: End, log: str, rings: Sequence[Ring]) -> tuple[str, str, Grade]:
    """(one of CAUSES, the line that shows it, how it is known)."""
    marks = [record for ring in rings for record in ring.records if record.kind == "exception"]
    raised = max(marks, key=lambda record: record.time_ns).text if marks else ""
    outcome, line = crash_log.classify(log, raised, complete=False, timed_out=False)
    if outcome != "other-error":
        return outcome, line, Grade.MEASURED
    child = max(_CHILD.finditer(log), key=lambda found: found.start(), default=None)
    numbers = [int(child.group(1))] if child else [] if end.status >= 0 else [-end.status]
    by_signal = next((_BY_SIGNAL[number] for number in map(_signal, numbers) if number in _BY_SIGNAL), None)
    who = f"a child of the server ended with signal {numbers[0]}" if child else f"the server ended with {end.signal}"
    if by_signal == "killed" and end.oom_kills:
        return "oom-kill", f"{who}; the kernel killed {end.oom_kills} for memory meanwhile", Grade.DERIVED
    if child and by_signal:
        return by_signal, who, Grade.MEASURED
    if error := raised or crash_log.last_error(log):
        return "other-error", error, Grade.DERIVED
    if by_signal:
        return by_signal, who, Grade.MEASURED
    return "unknown", line, Grade.GUESS


def oom_kills(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """How many the kernel has killed for memory in our control group (version 2) so far; None where it is silent."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        below = own.read_text().strip().rpartition("::/")[2]
        for folder in (root / below, root):
            with contextlib.suppress(OSError):
                counts = dict(line.split() for line in (folder / "memory.events").read_text().splitlines())
                return int(counts["oom_kill"])
    return None


def _signal(number: int) -> signal.Signals | None:
    return signal.Signals(number) if number in set(signal.Signals) else None


def _rings(folder: Path, pids: set[int], started: float, run: str) -> list[tuple[Path, Ring]]:
    found = []
    for path in sorted(folder.glob(f"ring-*{SUFFIX}")):
        with contextlib.suppress(G4DiagError):
            ring = read_ring(path)
            # Two containers that share the folder may both have a process 1.
            if ring.pid in pids and ring.started_ns >= started * 1e9 and ring.run in ("", run):
                found.append((path, ring))
    return found[-postmortem.MAX_PROCESSES :]


def _verdicts(run_dir: Path) -> tuple[Verdict, ...]:
    found = []
    for path in sorted(run_dir.glob("verdict-*.json"))[: postmortem.MAX_PROCESSES]:
        with guard(f"reading {path.name}"):
            raw = read_bytes(path)
            data: Any = {"too_large": len(raw)} if len(raw) > _VERDICT_BYTES else _plain(raw)
            found.append(Verdict(path.name, data if isinstance(data, dict) else {"value": data}))
    return tuple(found)


def _plain(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return {"unreadable": raw[:LINE].decode(errors="replace")}


def _cores(dump_dir: Path, environ: Mapping[str, str], started: float) -> tuple[CoreDump, ...]:
    found = []
    for path in core_paths(dump_dir, environ, started):
        with contextlib.suppress(OSError):
            found.append(CoreDump(str(path), path.stat().st_size, core_dump.says(path)))
    return tuple(found)


def core_paths(dump_dir: Path, environ: Mapping[str, str], started: float) -> list[Path]:
    """Core dumps newer than the server, where its environment or ours would have put them. Opens none."""
    folders = {dump_dir}
    if named := environ.get("CUDA_COREDUMP_FILE", "").replace("%h", socket.gethostname()):
        folders.add(Path(named).parent)
    found = []
    for path in sorted({path for folder in folders for path in folder.glob("core*")}):
        with contextlib.suppress(OSError):
            seen = path.stat()
            if stat.S_ISREG(seen.st_mode) and seen.st_mtime >= started:
                found.append(path)
    return found[: postmortem.MAX_PROCESSES]
