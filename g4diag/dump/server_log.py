"""Lines of a server's log, or of the kernel's, that say something of a crash. Plain text, of any size: of a large one
the head and the tail are read, and of each line its beginning. No other line is kept: a log may hold prompts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from g4diag.dump.codecs import At, Many, Named, Text
from g4diag.dump.safe_pickle import parse_json
from g4diag.dump.secrets import masked
from g4diag.dump.timestamps import begins_with_time, line_time
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade, Incident, LogEvent

# What is looked at costs some 5 microseconds a line: these keep any log well inside the sandbox's processor time.
HEAD_BYTES, HEAD_LINES = 2 << 20, 20_000
TAIL_BYTES, TAIL_LINES = 10 << 20, 100_000
LINE_BYTES, TEXT = 2000, 400
FIRST_EVENTS, LAST_EVENTS, LAST_CALLS = 128, 384, 8

ILLEGAL_ACCESS = re.compile(
    r"illegal memory access|Warp Illegal Address|WARP_ILLEGAL_ADDRESS|CUDA_ERROR_ILLEGAL_ADDRESS|CUDA_EXCEPTION_14\b"
    r"|cudaErrorIllegalAddress\b"
)
ARMED = re.compile(r"g4diag armed: (\{.*?\}) pid=(\d+)")
NOT_ARMED = re.compile(r"g4diag NOT ARMED.*")
EXCEPTION = re.compile(r"^\s*(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt)\b.*", re.MULTILINE)

# The first that fits a line names it. Forms of sglang 0.5.13: srt/utils/async_probe.py, srt/kv_canary, scheduler.py;
# of torch: CUDAException, _assert_async; of the kernel: NVRM.
_KINDS = (
    ("violation", re.compile(r"g4diag violation trap=")),
    ("armed", re.compile(f"{ARMED.pattern}|{NOT_ARMED.pattern}")),
    ("xid", re.compile(r"NVRM: Xid\b")),
    ("kv-canary", re.compile(r"kv_canary violation:")),
    (
        "async-assert",
        re.compile(
            r"_assert_async|index (?:<|>=) -?\d+ \((?:negative|out of range)|page-misaligned indices \(page_size="
            r"|(?:NaN|Inf) detected! "
        ),
    ),
    (
        "device-assert",
        # The places are bounded: a line full of "block: [" must not be searched to its end for each of them.
        re.compile(
            r"device-side assert triggered|block: \[[\d, ]{1,40}\], thread: \[[\d, ]{1,40}\] Assertion .{1,400} failed"
        ),
    ),
    ("illegal-access", ILLEGAL_ACCESS),
    ("retract", re.compile(r"Retract requests\.|#retracted_reqs:")),
    (
        "exit",
        re.compile(
            r"crashed with exit code|terminated with -\d|Received sigquit|Fatal Python error|Segmentation fault"
            r"|Out of memory: Killed process|^Killed$"
        ),
    ),
    ("kernel-call", re.compile(r"(?:SGLang Kernel|FlashInfer) API Call: ")),
    ("exception", EXCEPTION),
)
_MANIFEST = Named(Many(Text(), list))
# Of Python itself: a binding's own frames, such as tvm_ffi's function.pxi, say nothing of who called.
_FRAME = re.compile(r'^\s*File "([^"]{1,300}\.py)", line (\d{1,9}), in ')
# Of Python's faulthandler: every thread, the innermost line first; that of the main thread ends in its module.
_STACK = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]{1,16}\b.*\(most recent call first\):")
_STACK_FRAME = re.compile(r'^\s*File "([^"]{1,300})", line (\d{1,9}) in (.{1,200})')
_RANK = re.compile(r"^\[[^\]]{0,60}\bTP(\d{1,4})\b")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Kept, but no word of a crash by themselves.
_NO_CRASH = ("frame", "armed")
_ENDS = ("illegal-access", "exception", "device-assert", "async-assert")


@dataclass
class _Reading:
    """What has been seen so far of one log."""

    name: str
    stamp: str = ""
    rank: int | None = None
    unread: int = 0
    frame: LogEvent | None = None
    stack: LogEvent | None = None
    in_stack: bool = False
    first: list[LogEvent] = field(default_factory=list)
    last: deque[LogEvent] = field(default_factory=lambda: deque(maxlen=LAST_EVENTS))
    manifest: dict[str, list[str]] = field(default_factory=dict)
    calls: deque[LogEvent] = field(default_factory=lambda: deque(maxlen=LAST_CALLS))
    found: int = 0

    def take(self, line: str, source: str) -> None:
        """One line, without its end."""
        if begins_with_time(line):
            self.stamp = line
            rank = _RANK.match(line)
            self.rank = int(rank.group(1)) if rank else None
        if place := _FRAME.match(line):
            self.frame = self._event("frame", line, source, _where(place))
            return
        if _STACK.match(line):
            self.stack, self.in_stack = None, True
            return
        if self.in_stack and (place := _STACK_FRAME.match(line)):
            self.stack = self.stack or self._event("stack", line, source, _where(place))
            if place.group(3) == "<module>":
                self._keep(self.stack)
                self.in_stack = False
            return
        kind = next((kind for kind, sign in _KINDS if sign.search(line)), None)
        if kind == "kernel-call":
            self.calls.append(self._event(kind, line, source))
        elif kind is not None:
            if self.frame is not None and kind in _ENDS:
                self._keep(self.frame)
                self.frame = None
            self._keep(self._event(kind, line, source))
            if kind == "armed":
                self._arm(line)

    def events(self) -> tuple[LogEvent, ...]:
        """In the order of the file, but for the last kernel calls, which come where their time puts them."""
        return tuple(replace(event, text=masked(event.text)) for event in (*self.first, *self.last, *self.calls))

    def _arm(self, line: str) -> None:
        """One process's manifest; what is no manifest of ours is a line like any other."""
        said = ARMED.search(line)
        with suppress(UnsafeInputError):
            for kind, names in _MANIFEST.unpack(parse_json(said[1]) if said else {}, At()).items():
                self.manifest[kind] = sorted({*self.manifest.get(kind, []), *names})

    def _event(self, kind: str, line: str, source: str, where: str = "") -> LogEvent:
        text = "".join(char if char.isprintable() else " " for char in line).strip()[:TEXT]
        return LogEvent(kind, text, source, line_time(self.stamp), where, self.rank)

    def _keep(self, event: LogEvent) -> None:
        self.found += 1
        if len(self.first) < FIRST_EVENTS:
            self.first.append(event)
        else:
            self.last.append(event)


def _where(place: re.Match[str]) -> str:
    return f"{place.group(1).rpartition('/')[2]}:{place.group(2)}"


def looks_like_text(head: bytes) -> bool:
    """Whether a file may be a log: no zero byte, and almost all of it UTF-8."""
    if not head or b"\0" in head:
        return False
    text = head.decode(errors="replace")
    return text.count("�") <= len(text) // 50 + 1


def read_log(file: BinaryIO, size: int, name: str) -> Incident | None:
    """The log as something to inspect; None if no line of it says anything and none has a time."""
    reading = _Reading(name)
    for line, source in _lines(file, size, reading):
        reading.take(_ESCAPES.sub("", line), source)
    events = reading.events()
    if not events and not reading.stamp:
        return None
    return Incident(
        origin="server-log",
        manifest=reading.manifest,
        context={"bytes": size, "events": reading.found},
        notes=tuple(_notes(reading, events)),
        log=events,
    )


def _notes(reading: _Reading, events: tuple[LogEvent, ...]) -> Iterator[tuple[Grade, str]]:
    counts: dict[str, int] = {}
    for event in events:
        counts[event.kind] = counts.get(event.kind, 0) + 1
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind not in _NO_CRASH)
    yield Grade.MEASURED, f"lines that speak of a crash: {said or 'none'}"
    dropped = reading.found - len(reading.first) - len(reading.last)
    if dropped:
        yield Grade.MEASURED, f"{dropped} such lines between the first {FIRST_EVENTS} and the last were left out"
    if reading.unread:
        unread = f"{reading.unread} bytes in the middle of this log were not looked at"
        yield Grade.MEASURED, f"{unread}; lines after it are named by byte"
    if reading.stamp:
        yield Grade.GUESS, "its times name no zone: taken as UTC"


def _lines(file: BinaryIO, size: int, reading: _Reading) -> Iterator[tuple[str, str]]:
    """(line, place) of the head, then of the tail: what lies between them, if anything, is counted as unread."""
    head = file.read(HEAD_BYTES).split(b"\n", HEAD_LINES)
    # The last is a line cut off, or all that is past the limit: the tail begins there at the earliest.
    head.pop()
    at = 0
    for number, line in enumerate(head, start=1):
        yield _text(line), f"{reading.name}:{number}"
        at += len(line) + 1
    start = max(at, size - TAIL_BYTES)
    file.seek(start)
    tail = file.read(TAIL_BYTES).rsplit(b"\n", TAIL_LINES)
    if len(tail) > TAIL_LINES:
        start += len(tail.pop(0)) + 1
    reading.unread = start - at
    for number, line in enumerate(tail, start=len(head) + 1):
        yield _text(line), f"{reading.name}:byte {start}" if reading.unread else f"{reading.name}:{number}"
        start += len(line) + 1


def _text(line: bytes) -> str:
    return line[:LINE_BYTES].decode(errors="replace")


def events_of(lines: Iterable[str], name: str) -> tuple[LogEvent, ...]:
    """The same of lines that were kept elsewhere, as in a post-mortem."""
    reading = _Reading(name)
    for number, line in enumerate(lines, start=1):
        reading.take(_ESCAPES.sub("", line[:LINE_BYTES]), f"{name}:{number}")
    return reading.events()
