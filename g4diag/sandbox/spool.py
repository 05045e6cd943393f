"""What comes through a pipe, as a file that the child can read: standard input for `-`, and a shell's `<(...)`.

Only a pipe that is open already is read: opening a named one could wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from g4diag.errors import CannotRunError, UsageError

_OPEN_ALREADY = re.compile(r"/dev/(?:stdin|fd/\d{1,6})|/proc/self/fd/\d{1,6}")


@contextlib.contextmanager
def spooled(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """The same paths, with a private copy in place of each pipe; the copies go when the block is left."""
    if not any(map(_is_pipe, paths)):
        yield list(paths)
        return
    with tempfile.TemporaryDirectory(prefix="g4diag-pipe-") as folder:
        yield [_copied(path, Path(folder), n) if _is_pipe(path) else path for n, path in enumerate(paths)]


def _is_pipe(path: Path) -> bool:
    if str(path) == "-":
        return True
    if not _OPEN_ALREADY.fullmatch(str(path)):
        return False
    with contextlib.suppress(OSError):
        return stat.S_ISFIFO(path.stat().st_mode)
    return False


def _copied(path: Path, folder: Path, number: int) -> Path:
    place = folder / (f"{number}/stdin" if str(path) in ("-", "/dev/stdin") else f"{number}/pipe")
    place.parent.mkdir(mode=0o700)
    try:
        with _opened(path) as source, open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except OSError as error:
        raise CannotRunError(f"{path}: cannot be kept while it is read: {error.strerror or error}") from None
    return place


def _opened(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    if str(path) != "-":
        return open(path, "rb")
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("-: wanted a log on standard input, found a terminal")
    return contextlib.nullcontext(sys.stdin.buffer)
