"""What a log tells, as typed values: each event with its time, rank, process and line. Plain data, read by `logs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from g4diag.model.log_base import DeviceError, Event, Frame, Link
from g4diag.model.log_state import (
    Armed,
    Batch,
    Batches,
    Chosen,
    KernelCall,
    PoolAudit,
    PoolSum,
    ServerArgs,
    TrapSaid,
)

__all__ = [
    "Armed",
    "AsyncAssert",
    "Batch",
    "Batches",
    "Canary",
    "Chosen",
    "DeviceAsserts",
    "DeviceError",
    "DeviceSaid",
    "Ended",
    "Event",
    "Frame",
    "KernelCall",
    "KernelSaid",
    "Link",
    "OutOfMemory",
    "PoolAudit",
    "PoolSum",
    "Raised",
    "Retractions",
    "ServerArgs",
    "Stack",
    "TimedOut",
    "TrapSaid",
    "Xid",
]


@dataclass(frozen=True, kw_only=True)
class Raised(Event):
    """A Python exception. chain: oldest first; the last one killed. lead: what the logger said before the traceback.
    device: set where the last one tells a CUDA error. relayed: it only repeats an error of another process."""

    KIND: ClassVar[str] = "exception"
    chain: tuple[Link, ...] = ()
    lead: str = ""
    device: DeviceError | None = None
    relayed: bool = False

    @property
    def killed(self) -> Link:
        """The exception that ended it."""
        return self.chain[-1]

    @property
    def surfaced(self) -> Frame | None:
        """The innermost Python line of the exception that killed; of an earlier one only where it has none."""
        return next((frame for link in reversed(self.chain) if (frame := link.surfaced)), None)


@dataclass(frozen=True, kw_only=True)
class DeviceSaid(Event):
    """A CUDA error that no Python exception carries: a watchdog's, a C++ exception's, a debugger's or a driver's line.
    kernel: the kernel that it names, "" if none."""

    KIND: ClassVar[str] = "illegal-access"
    device: DeviceError = field(default_factory=lambda: DeviceError("", "", "waited"))
    kernel: str = ""


@dataclass(frozen=True, kw_only=True)
class DeviceAsserts(Event):
    """Device-side assertions of one place, folded. claim: what was asserted. asynchronous: torch's _assert_async, which
    is asked for by a check in Python."""

    KIND: ClassVar[str] = "device-assert"
    place: str = ""
    function: str = ""
    claim: str = ""
    count: int = 1
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None

    @property
    def is_index(self) -> bool:
        """An index out of bounds."""
        return "index out of bounds" in self.claim or "index < sizes" in self.claim.replace("]", "")


@dataclass(frozen=True, kw_only=True)
class AsyncAssert(Event):
    """A check of sglang's own that ran on the device and failed later: NaN, an id out of range, a misaligned index."""

    KIND: ClassVar[str] = "async-assert"
    what: str = ""


@dataclass(frozen=True, kw_only=True)
class OutOfMemory(Event):
    """of: "device" or "host". tried, capacity: bytes, None if not told."""

    KIND: ClassVar[str] = "out-of-memory"
    of: str = "device"
    tried: int | None = None
    capacity: int | None = None


@dataclass(frozen=True, kw_only=True)
class TimedOut(Event):
    """A watchdog's word. of: "nccl" or "scheduler". operation: the collective, "" if none is told. seconds: it had."""

    KIND: ClassVar[str] = "time-out"
    of: str = ""
    operation: str = ""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stack(Event):
    """Where a thread was. frames: innermost first. main: it is the process's main thread. current: the thread that
    aborted. by: "faulthandler" or "py-spy"."""

    KIND: ClassVar[str] = "stack"
    frames: tuple[Frame, ...] = ()
    main: bool = False
    current: bool = False
    by: str = "faulthandler"

    @property
    def surfaced(self) -> Frame | None:
        """The innermost Python line."""
        return next((frame for frame in self.frames if frame.path.endswith(".py")), None)


@dataclass(frozen=True, kw_only=True)
class Retractions(Event):
    """Requests put back because a pool was full, folded. requests: of all `count` lines."""

    KIND: ClassVar[str] = "retract"
    count: int = 1
    requests: int = 0
    last: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """A process that ended, or is being ended. signal: its number, 0 if none. code: exit status. asked: it was told
    to stop. teardown: the line follows from another process's death."""

    KIND: ClassVar[str] = "exit"
    signal: int = 0
    code: int | None = None
    pid: int | None = None
    asked: bool = False
    teardown: bool = False


@dataclass(frozen=True, kw_only=True)
class Xid(Event):
    """An error that the NVIDIA driver reports. number: NVIDIA's. address: the faulting one, as written. access: "read",
    "write" or "". fault: as "FAULT_PDE". detail: the rest of the line. units: the
    SMs that told it, as "GPC 1, TPC 1, SM 1". count: lines of this fault."""

    KIND: ClassVar[str] = "xid"
    number: int = 0
    pci: str = ""
    pid: int | None = None
    name: str = ""
    address: str = ""
    access: str = ""
    fault: str = ""
    detail: str = ""
    units: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Canary(Event):
    """A violation that sglang's KV canary found. tag: as "TAIL_K_SWA"; pool: "full" or "swa"; part: "k" or "v".
    stored, expected: token ids. count: violations of this process with this tag and reason, this one and those after
    it. past_next: what divides position - slot - 1 of each of them, 0 where that is 0 in all; None where one of them
    names no slot or no position."""

    KIND: ClassVar[str] = "kv-canary"
    tag: str = ""
    pool: str = ""
    part: str = ""
    reason: str = ""
    slot: int | None = None
    position: int | None = None
    stored: int | None = None
    expected: int | None = None
    count: int = 1
    past_next: int | None = None


@dataclass(frozen=True, kw_only=True)
class KernelSaid(Event):
    """A kernel at fault by a tool's own words. by: "cuda-gdb" or "compute-sanitizer". access: "read", "write" or "".
    size: bytes of the access. past: bytes past the end of the nearest allocation, of `allocation` bytes; before: bytes
    before it. count: such errors of one kernel."""

    KIND: ClassVar[str] = "kernel-fault"
    by: str = ""
    kernel: str = ""
    exception: str = ""
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None
    device: int | None = None
    place: str = ""
    access: str = ""
    size: int | None = None
    address: str = ""
    past: int | None = None
    before: int | None = None
    allocation: int | None = None
    host: str = ""
    count: int = 1
