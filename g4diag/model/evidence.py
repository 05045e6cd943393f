"""What others left of a crash: lines of a log, and what a debugger read in a core dump."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LogEvent:
    """One line that says something of a crash, from a server log or a kernel-API log.

    kind: "illegal-access", "xid", "device-assert", "async-assert", "kv-canary", "violation", "armed", "exception",
    "frame" (the innermost Python line of a traceback), "stack" (where the main thread was when its process was
    aborted), "retract", "exit" or "kernel-call". text: the line, cut and plain.
    time: seconds since the epoch, of the line or of the last one before it that says a time; None if none does. A log
    names no zone: taken as UTC. where: "file.py:123" it names, "" if none. source: the file it stands in and its line
    number there, "server.log:204". rank: the tensor-parallel rank that wrote it, None if it does not say.
    """

    kind: str
    text: str
    source: str
    time: float | None = None
    where: str = ""
    rank: int | None = None


DEVICE_KINDS = ("illegal-access", "xid", "device-assert", "async-assert")


def surfaced_at(log: Iterable[LogEvent]) -> LogEvent | None:
    """The innermost Python line of the first error that a log tells, of the device or of Python; else where the main
    thread was when its process was aborted. None if the log tells neither."""
    frame = stack = None
    for event in log:
        if event.kind == "frame":
            frame = event
        elif event.kind in (*DEVICE_KINDS, "exception") and frame:
            return frame
        elif event.kind == "stack":
            stack = stack or event
    return frame or stack


@dataclass(frozen=True)
class KernelFault:
    """One faulting warp of a CUDA core dump. block, thread: their coordinates in the grid, None if not told.
    meaning: what the block stands for where the kernel is known, such as "row 7, K/V head 0"; "" if not."""

    kernel: str
    exception: str
    source: str
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None
    meaning: str = ""
