"""A process that ends with whoever started it (Linux): a server left behind keeps its GPU's memory from all others."""

from __future__ import annotations

import contextlib
import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals) -> None:
    """Be sent this signal when the thread that started this process is no more, also where it was killed and could
    end nothing by itself. Nothing where the system has no such thing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
