"""Out of memory: torch's and CUDA's on the device, the kernel's killer on the host."""

from __future__ import annotations

import re
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import each
from g4diag.model.log import Event, OutOfMemory

_DEVICE = re.compile(
    r"(?:torch\.(?:cuda\.)?OutOfMemoryError|torch\.AcceleratorError|RuntimeError|cupy\S{0,60}OutOfMemoryError): "
    r"(?:CUDA (?:error: )?out of memory|.{0,40}out of memory)|CUDA (?:error: )?out of memory"
)
_HOST = re.compile(r"(?:Memory cgroup o|O)ut of memory: Killed process (\d{1,9})|oom-kill:|.{0,80}oom-kill")
_TRIED = re.compile(r"Tried to allocate ([\d.]{1,12}) ([KMGT]i?B)")
_CAPACITY = re.compile(r"total capacity of ([\d.]{1,12}) ([KMGT]i?B)")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def read(line: Line, place: dict[str, Any]) -> Event | None:
    """One allocation that was refused, or one process that was killed for it."""
    text = line.text[:1500]
    if _HOST.match(text):
        return OutOfMemory(**place, of="host")
    if not _DEVICE.match(text):
        return None
    return OutOfMemory(**place, tried=_bytes(_TRIED.search(text)), capacity=_bytes(_CAPACITY.search(text)))


def _bytes(found: re.Match[str] | None) -> int | None:
    try:
        return int(float(found[1]) * _UNITS[found[2][0]]) if found else None
    except ValueError:
        return None


EVENT = EventKind(
    "out_of_memory",
    (
        "ut of memory",
        "oom-kill",
    ),
    each(read),
)
