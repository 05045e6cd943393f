"""How arming went in each process of a server: one small file a process in a run directory, whole or not there.

sglang swallows what a plugin raises, so a scheduler that could not be armed says so nowhere else. Standard library
only: written in every process, also in one whose settings are wrong.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from g4diag.atomic_write import atomic_write

_SUFFIX = ".arming.json"


@dataclass(frozen=True)
class Record:
    """One process. state: `armed`, `inert` or `failed`, as plugin.Outcome. process: its multiprocessing name.
    not_armed: traps that do not fit, a line each."""

    pid: int
    process: str
    state: str
    error: str = ""
    manifest: dict[str, list[str]] = field(default_factory=dict)
    not_armed: tuple[str, ...] = ()


def write(
    folder: Path, state: str, error: str, manifest: dict[str, list[str]], not_armed: tuple[str, ...] = ()
) -> None:
    """Say how it went in this process; the last word counts. OSError if the disk refuses."""
    record = Record(os.getpid(), multiprocessing.current_process().name, state, error, manifest, not_armed)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / f"{record.pid}{_SUFFIX}", json.dumps(asdict(record), sort_keys=True))


def read(folder: Path) -> tuple[Record, ...]:
    """Every process that has spoken, by pid. A file that is not a record is left out."""
    found = (_read(path) for path in folder.glob(f"*{_SUFFIX}"))
    return tuple(sorted((record for record in found if record is not None), key=lambda record: record.pid))


def _read(path: Path) -> Record | None:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        return Record(**raw)
    except (OSError, ValueError, TypeError):
        return None
