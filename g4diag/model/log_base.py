"""What every event of a log has, and what exceptions are made of. Plain data, read by `logs`."""

from __future__ import annotations

from dataclasses import dataclass
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
