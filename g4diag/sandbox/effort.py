"""How much processor time a log may take, and how far its reading is: a log of any size is read whole."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from g4diag.logs.opening import looks_like_text, packing, unpacked_head

# A log whose every line is an event, on a busy machine; an ordinary one is read fifty times as fast.
BYTES_A_SECOND = 4 << 20
_PACKED, _MOST_SECONDS, _MOST_FILES, _HEAD = 20, 900.0, 256, 4096
_DEEPEST, _MOST_ENTRIES = 6, 4096  # as case.py reads a folder
_QUIET_SECONDS = 1.0
_QUICK = 0.1  # seconds that an ordinary file takes at most


@dataclass(frozen=True)
class Share:
    """Processor time of a case. seconds: what one file may take. count: of files; logs: seconds for large logs."""

    seconds: float
    count: int
    logs: float

    @property
    def each(self) -> float:
        """What one file of several may take; it is then not read, and the others are."""
        return self.seconds + self.logs

    @property
    def files(self) -> float:
        """What all may take to be read: three that take long, and many that do not."""
        return self.seconds * min(max(self.count, 1), 3) + _QUICK * self.count + self.logs

    @property
    def in_all(self) -> float:
        """Until the case is given up: what was read is still to be judged. One file has no more than it ever had."""
        return self.seconds + self.logs if self.count <= 1 else self.files + self.seconds


def count_files(paths: Sequence[Path]) -> int:
    """How many files these are, and the folders among them hold."""
    return sum(1 for _ in itertools.islice(_files(paths), _MOST_FILES))


def seconds_for_logs(paths: Sequence[Path]) -> float:
    """Processor time beyond what any file gets, for the logs among these files and in these folders."""
    read = sum(map(_bytes_of_log, itertools.islice(_files(paths), _MOST_FILES)))
    return min(read / BYTES_A_SECOND, _MOST_SECONDS)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield from _below(path, 0) if _is_folder(path) else [path]


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Files as deep as a case is read; no link is followed."""
    with contextlib.suppress(OSError, ValueError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _MOST_ENTRIES):
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            elif depth < _DEEPEST and entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), depth + 1)


def _is_folder(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return path.is_dir()
    return False


def _bytes_of_log(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        if not path.is_file() or (size := path.stat().st_size) < BYTES_A_SECOND // 8:
            return 0
        with open(path, "rb") as file:
            head = file.read(_HEAD)
        if looks_like_text(unpacked_head(head)):
            return size * (_PACKED if packing(head) else 1)
    return 0


class Progress:
    """On a terminal, how far a child has read, once it has taken a second; nothing elsewhere."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = set(map(os.path.realpath, paths))
        self._began = time.monotonic()
        self._shown = False
        self._wanted = sys.stderr is not None and sys.stderr.isatty()

    def look(self, pid: int) -> None:
        """To be called now and then."""
        if not self._wanted or time.monotonic() < self._began + _QUIET_SECONDS:
            return
        with contextlib.suppress(OSError, ValueError, IndexError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                path = os.readlink(f"/proc/{pid}/fd/{fd}")
                if path not in self._paths or not (size := os.path.getsize(path)):
                    continue
                at = int(Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split()[1])
                print(f"\rg4diag: reading, {min(at * 100 // size, 100)} %", end="", file=sys.stderr, flush=True)
                self._shown = True

    def done(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
