"""The server's output, copied to a log file on its way to where it was going, unchanged.

A stream that went to a terminal still does as far as the server can tell: its end of it is a pseudo-terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 64 << 20
_CHUNK, _DRAIN = 1 << 16, 2.0  # bytes; seconds for what is still on its way once the server has ended


class Tee:
    """The log of one server. At `max_bytes` it is renamed to NAME.1, over an earlier one, and begun anew."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._max_bytes = path, max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)
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
        text = b""
        for path in (self.path.with_name(self.path.name + ".1"), self.path):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(-min(max_bytes, path.stat().st_size), os.SEEK_END)
                text += file.read()
        return text[-max_bytes:].decode(errors="replace")

    def _pump(self, source: int, target: int) -> None:
        while True:
            try:
                data = os.read(source, min(_CHUNK, self._max_bytes))
            except OSError:  # a pseudo-terminal says so at its end
                data = b""
            if not data:
                os.close(source)
                return
            # Whoever read our output may be gone; the server is not to notice, nor the log to end.
            with contextlib.suppress(OSError):
                _write_all(target, data)
            with self._lock, contextlib.suppress(OSError):
                self._log(data)

    def _log(self, data: bytes) -> None:
        if self._written + len(data) > self._max_bytes:
            self._file.close()
            os.replace(self.path, self.path.with_name(self.path.name + ".1"))
            self._file, self._written = self.path.open("wb", buffering=0), 0
        self._written += len(data)
        _write_all(self._file.fileno(), data)


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
