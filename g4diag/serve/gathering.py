"""Gather what a dead server left in a process with limits: a hostile log, ring or core dump takes nothing with it but
that process, and whoever stops us is not kept waiting for it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from g4diag import sandbox
from g4diag.dump.postmortem import PostMortem
from g4diag.errors import G4DiagError
from g4diag.model import Grade
from g4diag.serve.postmortem import LINE, End, cause_of_signal, core_paths, gather
from g4diag.serve.tee import tail_of
from g4diag.settings import Settings

LOG_BYTES = 256 << 10
SECONDS = 20.0  # of processor time to read all that was left: 64 rings of 4 MiB take a quarter of it
_ENVIRON = ("G4DIAG_EXPLICIT_FLAGS", "CUDA_COREDUMP_FILE")


def gather_files(paths: Sequence[Path], *, end: dict[str, Any], environ: dict[str, str], log: str) -> PostMortem:
    """`postmortem.gather`, as it is called in the child. paths: the dump directory and the run directory. end: the
    fields of End. log: the name of the log in the dump directory, "" for none."""
    dump_dir, run_dir = paths
    told = End(**end | {"schedulers_gone": tuple(end["schedulers_gone"])})
    return gather(told, dump_dir, run_dir, environ, tail_of(dump_dir / log, LOG_BYTES) if log else "", log)


def gather_in_child(end: End, dump_dir: Path, run_dir: Path, environ: Mapping[str, str], log: str) -> PostMortem:
    """Everything there is; where it cannot be read, how the server ended, and why no more is told. Never raises an
    error of ours."""
    try:
        found: PostMortem = sandbox.call(
            "gather_files",
            [dump_dir.absolute(), run_dir.absolute()],
            Settings(),
            more={"end": asdict(end), "environ": kept(environ), "log": log},
            seconds=SECONDS,
            cores=core_paths(dump_dir, environ, end.started),
        )
    except (G4DiagError, sandbox.ChildFault) as error:
        return bare(end, f"what it left was not read: {error}", log)
    return found


def kept(environ: Mapping[str, str]) -> dict[str, str]:
    """What is asked of a server's environment; the rest may hold secrets."""
    return {name: environ[name] for name in _ENVIRON if name in environ}


def bare(end: End, why: str, log: str) -> PostMortem:
    """What is known without reading anything that the server left."""
    said = f"the server ended with {end.signal or f'exit status {end.status}'}; {why}"
    return PostMortem(
        *(cause_of_signal(end), said[: LINE * 4], Grade.MEASURED if end.signal else Grade.GUESS),
        *(end.status, end.signal),
        written=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=int(time.time() - end.started),
        asked=end.asked,
        schedulers_gone=end.schedulers_gone,
        oom_kills=end.oom_kills,
        log=log or None,
    )
