"""The server's output, copied to a log file on its way to where it was going. It goes on unchanged; in the log secrets
are hidden before anything is written, line by line, and nobody but its owner reads the file.

A stream that went to a terminal still does as far as the server can tell: its end of it is a pseudo-terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from g4diag.dump.secrets import masked

MAX_BYTES = 64 << 20
_CHUNK, _LONG_LINE = 1 << 16, 1 << 16  # bytes
_DRAIN = 2.0  # seconds for what is still on its way once the server has ended


class Tee:
    """The log of one server. At `max_bytes` it is renamed to NAME.1, over an earlier one, and begun anew. mask: takes
    secrets out of a line."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, mask: Callable[[str], str] = masked) -> None:
        self.path, self._max_bytes, self._mask = path, max_bytes, mask
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = _private(path)
        self._lock = threading.Lock()
        self._written = 0

    @contextlib.contextmanager
    def streams(self, targets: tuple[int, int] = (1, 2)) -> Iterator[tuple[int, int]]:
        """Descriptors for the server's stdout and stderr. Both are copied from until the context is left."""
        pairs = [_pair(target) for target in targets]
        pumps = [
            threading.Thread(target=self._pump, args=(source, target), daemon=True)
            for (source, _), target in zip(pairs, targets, strict=True)
        ]
        for pump in pumps:
            pump.start()
        try:
            yield pairs[0][1], pairs[1][1]
        finally:
            for _, inlet in pairs:
                os.close(inlet)
            # A grandchild that lives on holds its end open: not waited for.
            for pump in pumps:
                pump.join(_DRAIN)

    def tail(self, max_bytes: int) -> str:
        """The end of what was logged."""
        return tail_of(self.path, max_bytes)

    def _pump(self, source: int, target: int) -> None:
        pending = b""
        while True:
            try:
                data = os.read(source, min(_CHUNK, self._max_bytes))
            except OSError:  # a pseudo-terminal says so at its end
                data = b""
            if not data:
                os.close(source)
                self._keep(pending)
                return
            # Whoever read our output may be gone; the server is not to notice, nor the log to end.
            with contextlib.suppress(OSError):
                _write_all(target, data)
            pending += data
            end = max(pending.rfind(b"\n"), pending.rfind(b"\r")) + 1
            if not end and len(pending) >= min(_LONG_LINE, self._max_bytes):
                end = len(pending)
            self._keep(pending[:end])
            pending = pending[end:]

    def _keep(self, data: bytes) -> None:
        """Whole lines, or a long piece of one, into the log."""
        if not data:
            return
        lines = data.decode(errors="surrogateescape").splitlines(keepends=True)
        shown = "".join(map(self._mask, lines)).encode(errors="surrogateescape")
        with self._lock, contextlib.suppress(OSError):
            self._log(shown)

    def _log(self, data: bytes) -> None:
        if self._written + len(data) > self._max_bytes:
            self._file.close()
            os.replace(self.path, self.path.with_name(self.path.name + ".1"))
            self._file, self._written = _private(self.path), 0
        self._written += len(data)
        _write_all(self._file.fileno(), data)


def tail_of(path: Path, max_bytes: int) -> str:
    """The end of a log and of what it was before it was begun anew."""
    text = b""
    for part in (path.with_name(path.name + ".1"), path):
        with contextlib.suppress(OSError), part.open("rb") as file:
            file.seek(-min(max_bytes, part.stat().st_size), os.SEEK_END)
            text += file.read(max_bytes)
    return text[-max_bytes:].decode(errors="replace")


def _private(path: Path) -> io.FileIO:
    """A new file that nobody but its owner reads."""
    return io.FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w")


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _pair(target: int) -> tuple[int, int]:
    """(where we read, where the server writes)."""
    if not os.isatty(target):
        return os.pipe()
    ours, theirs = os.openpty()
    tty.setraw(theirs)  # the real terminal does what a terminal does to the bytes
    with contextlib.suppress(OSError):
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, fcntl.ioctl(target, termios.TIOCGWINSZ, bytes(8)))
    return ours, theirs
