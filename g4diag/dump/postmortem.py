"""The post-mortem of a server, as one JSON object: what `g4diag serve` found when a process died unseen by Python.

Schema `g4diag.postmortem`, version 1. Written to a temp name and renamed. Indices, sizes and identifiers of ours, and
the last lines that the server itself had printed, which may hold whatever it was told to log; secrets are masked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g4diag.atomic_write import atomic_write
from g4diag.dump import core_dump, server_log
from g4diag.dump.codecs import At, Flag, Int, Many, Maybe, Named, Plain, Record, Text, Word
from g4diag.dump.safe_pickle import parse_json
from g4diag.dump.schema import RING
from g4diag.dump.secrets import masked
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade, Incident, RingRecord

SCHEMA, VERSION = "g4diag.postmortem", 1
MAX_PROCESSES = 64


@dataclass(frozen=True)
class RingFile:
    """One process's flight recorder, its last records. file: its name beside the post-mortem. started_mono_ns:
    started_ns on the records' clock, -1 in files of earlier releases."""

    file: str
    pid: int
    process: str = ""
    started_ns: int = -1
    skipped: int = 0
    missing: int = 0
    records: tuple[RingRecord, ...] = ()
    started_mono_ns: int = -1


@dataclass(frozen=True)
class CoreDump:
    """says: what a debugger read in it, or why none did."""

    file: str
    bytes: int
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a trap left on disk while Python still ran. data: as its writer wrote it."""

    file: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PostMortem:
    """cause: see `stack.postmortem.CAUSES`. line: what shows it. status: exit status, negative for a signal.
    seconds: the server's life. schedulers_gone: pids that vanished before it. asked: it had been told to stop.
    oom_kills: by the kernel, in our control group, in that time; None where it does not say. log: the file's name."""

    cause: str
    line: str
    grade: Grade
    status: int
    signal: str = ""
    written: str = ""
    seconds: int = -1
    asked: bool = False
    schedulers_gone: tuple[int, ...] = ()
    oom_kills: int | None = None
    flags: tuple[str, ...] = ()
    manifest: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    rings: tuple[RingFile, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    cores: tuple[CoreDump, ...] = ()
    log: str | None = None
    log_tail: tuple[str, ...] = ()


_RING_FILE = Record(
    RingFile,
    {
        "file": Text(),
        "pid": Int(),
        "process": Text(),
        "started_ns": Int(),
        "skipped": Int(0),
        "missing": Int(0),
        "records": Many(RING),
        "started_mono_ns": Int(),
    },
)
_CORE = Record(CoreDump, {"file": Text(), "bytes": Int(), "says": Many(Text())})
_VERDICT = Record(Verdict, {"file": Text(), "data": Named(Plain())})
_POSTMORTEM = Record(
    PostMortem,
    {
        "cause": Text(),
        "line": Text(),
        "grade": Word(Grade),
        "status": Int(),
        "signal": Text(),
        "written": Text(),
        "seconds": Int(),
        "asked": Flag(),
        "schedulers_gone": Many(Int()),
        "oom_kills": Maybe(Int()),
        "flags": Many(Text()),
        "manifest": Named(Many(Text(), list)),
        "versions": Named(Text()),
        "rings": Many(_RING_FILE, limit=MAX_PROCESSES),
        "verdicts": Many(_VERDICT, limit=MAX_PROCESSES),
        "cores": Many(_CORE, limit=MAX_PROCESSES),
        "log": Maybe(Text()),
        "log_tail": Many(Text()),
    },
)


def write(found: PostMortem, path: Path) -> Path:
    """Write it whole. OSError if the disk refuses."""
    head = {"schema": SCHEMA, "version": VERSION}
    # surrogateescape in a file name or a log line becomes an escape that the reader takes.
    text = json.dumps(head | _POSTMORTEM.pack(found), indent=1, ensure_ascii=True, allow_nan=False)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return atomic_write(path, text, private=True)


def parse(raw: bytes) -> PostMortem:
    """Raises UnsafeInputError naming the malformed field."""
    document = parse_json(raw)
    at = At()
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UnsafeInputError(f"not ours: wanted JSON of schema {SCHEMA!r}, found another")
    version = Int(1).unpack(document.get("version"), at.of("version"))
    if version > VERSION:
        at.of("version").refuse(f"at most {VERSION}, the newest this g4diag reads", version)
    found: PostMortem = _POSTMORTEM.unpack(document, at)
    return found


def incident_of(found: PostMortem) -> Incident:
    """As something to inspect: it holds no views, so nothing can be judged, only told."""
    ended = found.signal or f"exit status {found.status}"
    notes = [(found.grade, f"the server died ({ended}), most likely of {found.cause}: {masked(found.line)}")]
    notes += [(Grade.MEASURED, f"scheduler {pid} was gone before the server") for pid in found.schedulers_gone]
    notes += [(Grade.MEASURED, f"verdict {v.file}: {json.dumps(v.data, sort_keys=True)[:400]}") for v in found.verdicts]
    notes += [(Grade.MEASURED, f"core dump {c.file}: {' | '.join(c.says)[:400]}") for c in found.cores]
    last = max(found.rings, key=lambda ring: ring.records[-1].time_ns if ring.records else -1, default=None)
    if last is not None:
        notes.append((Grade.MEASURED, f"flight recorder of pid {last.pid}, one of {len(found.rings)}: {last.file}"))
    tail = [masked(line) for line in found.log_tail[-20:]]
    context = {"cause": found.cause, "status": found.status, "log_tail": tail}
    if flags := [masked(flag) for flag in found.flags if flag]:
        context["flags"] = flags
    if last is not None:
        context |= {"pid": last.pid, "wall_ns": last.started_ns, "mono_ns": last.started_mono_ns}
    log = server_log.read_lines(found.log_tail, found.log or "log")
    return Incident(
        origin="g4diag-postmortem",
        manifest=found.manifest,
        versions=found.versions,
        context=context,
        notes=tuple(notes),
        ring=last.records if last is not None else (),
        log=server_log.lines_of(log.events),
        events=log.events,
        faults=tuple(fault for core in found.cores for fault in core_dump.faults(core.says, Path(core.file).name)),
    )
