"""What a log tells, as typed values: each event with its time, rank, process and line. Plain data, read by `logs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a log says. KIND: short key. line: its number in `file`, from 1. time: seconds since the epoch, or
    on another clock, see `clock`: "zone" (a zone is written), "local" (none is: taken as UTC), "yearless" (of 1970),
    "day" (of one day), "boot" (seconds since the machine started), "" (none is told). rank: as
    the engine writes it, "DP3 TP3"; "" if it does not. tp: the tensor-parallel rank. process: what tells it from other
    writers of the same log. text: the line, cut, plain, without secrets and quoted text."""

    KIND: ClassVar[str] = ""
    line: int = 0
    file: str = ""
    time: float | None = None
    clock: str = ""
    rank: str = ""
    tp: int | None = None
    process: str = ""
    text: str = ""

    @property
    def source(self) -> str:
        """As "server.log:204"."""
        return f"{self.file}:{self.line}"

    @property
    def who(self) -> str:
        """Its rank, else its process, else ""."""
        return self.rank or self.process


@dataclass(frozen=True)
class Frame:
    """One Python frame. code: the source line that is printed below it, "" if none. at: its line in the log."""

    path: str
    line: int
    function: str
    code: str = ""
    at: int = 0

    @property
    def where(self) -> str:
        """As "sampler.py:120"."""
        return f"{self.path.replace(chr(92), '/').rpartition('/')[2]}:{self.line}"


@dataclass(frozen=True)
class Link:
    """One exception of a chain. kind: its class, with its module where told. how: what ties it to the one before,
    "during" or "cause"; "" for the first. frames: outermost first."""

    kind: str
    message: str
    frames: tuple[Frame, ...] = ()
    how: str = ""

    @property
    def name(self) -> str:
        """The class without its module."""
        return self.kind.rpartition(".")[2]

    @property
    def surfaced(self) -> Frame | None:
        """The innermost frame of a Python file: a binding's own frames say nothing of who called."""
        return next((frame for frame in reversed(self.frames) if frame.path.endswith(".py")), None)


@dataclass(frozen=True)
class DeviceError:
    """A CUDA error. code: as "cudaErrorIllegalAddress", "" if not known. blame: "waited" (asynchronous: the line only
    waited for the device), "launch" (the call that raised is the one that failed). hardware: the GPU or its links, not
    the program. function, place: the launcher and its source line, where the message names them."""

    code: str
    says: str
    blame: str
    hardware: bool = False
    function: str = ""
    place: str = ""


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
    stored, expected: token ids. count: violations of this process, this one and those after it."""

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


@dataclass(frozen=True)
class PoolSum:
    """One pool in an audit, in its own slots. available, evictable, protected, held, uncached: as printed, 0 where not.
    total: what they should add up to. leaked: the ids that the audit names."""

    pool: str
    total: int
    available: int
    evictable: int = 0
    protected: int = 0
    held: int = 0
    uncached: int = 0
    leaked: tuple[int, ...] = ()

    @property
    def over(self) -> int:
        """Slots too many; below 0: too few; 0: balanced."""
        return self.available + self.evictable + self.protected + self.held + self.uncached - self.total


@dataclass(frozen=True, kw_only=True)
class PoolAudit(Event):
    """A pool-leak audit of the scheduler. raised: it ended the process; else it warned."""

    KIND: ClassVar[str] = "pool-leak"
    pools: tuple[PoolSum, ...] = ()
    raised: bool = True


@dataclass(frozen=True)
class Batch:
    """One decode line. Uses are shares, 0..1; -1: not told. requests: running. queued: waiting."""

    line: int
    time: float | None
    requests: int = -1
    full_use: float = -1.0
    swa_use: float = -1.0
    accept: float = -1.0
    rate: float = -1.0
    queued: int = -1
    tokens_per_second: float = -1.0


@dataclass(frozen=True, kw_only=True)
class Batches(Event):
    """The decode lines of one process, in order, thinned out evenly where there are very many. seen: lines that the
    samples stand for, -1 where they were not all counted."""

    KIND: ClassVar[str] = "batches"
    samples: tuple[Batch, ...] = ()
    seen: int = 0


@dataclass(frozen=True, kw_only=True)
class ServerArgs(Event):
    """What the server says that it was started with. values: plain ones, by sglang's own names; no key or secret."""

    KIND: ClassVar[str] = "server-args"
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Chosen(Event):
    """One thing that the server chose or found, such as a backend. key: see `logs.facts`. value: as printed."""

    KIND: ClassVar[str] = "chosen"
    key: str = ""
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Armed(Event):
    """A manifest of ours: what is armed in one process. refused: it is not, and why."""

    KIND: ClassVar[str] = "armed"
    manifest: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pid: int | None = None
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class TrapSaid(Event):
    """A violation that a trap of ours logged; its text is read where violations are."""

    KIND: ClassVar[str] = "violation"


@dataclass(frozen=True, kw_only=True)
class KernelCall(Event):
    """A call that a kernel-API logger wrote down."""

    KIND: ClassVar[str] = "kernel-call"


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
