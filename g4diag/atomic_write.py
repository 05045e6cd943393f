"""Write a file whole or not at all: the one way anything of ours that somebody may read gets to disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def token() -> str:
    """Part of a file's name that no other process has chosen. Pids will not do: each container has a process 1."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"


def atomic_write(path: Path, content: str | bytes, *, durable: bool = False, private: bool = False) -> Path:
    """Write `content`, text as UTF-8, beside `path`, then rename it; `path`. durable: it outlives the machine's crash
    too. private: nobody but its owner reads it.

    OSError if the disk refuses, and ValueError for a path that no file can have; `path` is then as it was, and
    nothing is left beside it."""
    temp = path.with_name(f".{path.name}.{token()}.tmp")
    try:
        mode = 0o600 if private else 0o666
        with open(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; some file systems cannot, and the file is whole either way."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
