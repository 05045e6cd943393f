"""How much processor time the files of a case may take. One that takes more than its share is not read and is said to
be so; the others are read. Told once by the process with limits; anywhere else nothing is limited.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

from g4diag.errors import UnsafeInputError

_each = _ends = 0.0


class SpentError(UnsafeInputError):
    """A file, or the case before it, took too long."""


def tell(each: float, all_of_them: float) -> None:
    """Seconds of processor time for a file, and for all files together from now on."""
    global _each, _ends
    _each, _ends = each, time.process_time() + all_of_them


@contextlib.contextmanager
def one_file() -> Iterator[None]:
    """SpentError where what is done in here takes longer than a file may, or no time is left for it."""
    if not _ends:
        yield
        return
    seconds = min(_each, _ends - time.process_time())
    if seconds <= 0.01:
        raise SpentError("the files before it took all the processor time that a case may (G4DIAG_SANDBOX_SECONDS)")

    def stop(*_: object) -> None:
        raise SpentError(f"it took more than {seconds:.2g} s of processor time (G4DIAG_SANDBOX_SECONDS); given up")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
