"""The flight recorder's file: a header page, then a ring of fixed-size records that a SIGKILL cannot tear.

Layout, little-endian. Header, 4096 bytes: magic, version, record size, capacity, pid, wall clock and monotonic clock
at its start [ns], length and crc32 of a JSON object. Record, 256 bytes: sequence number from 1, monotonic time [ns],
code (1 a step, 2 a mark), the code's fields, crc32 of all before it. Record n lies in slot (n-1) % capacity.
A record half written when the process died fails its crc and is left out; every other is whole. No torch, no sglang.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import mmap
import os
import struct
import time
import weakref
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g4diag.dump.codecs import INT64, At, Many, Named, Text
from g4diag.dump.safe_pickle import parse_json
from g4diag.dump.torch_zip import read_bytes
from g4diag.errors import UnsafeInputError
from g4diag.model import Grade, Incident, RingRecord

MAGIC, VERSION, SUFFIX = b"G4DRING\0", 1, ".g4ring"
HEADER_BYTES, RECORD_BYTES, MAX_BYTES = 4096, 256, 4 << 20
MAX_CAPACITY = 1 << 16
MAX_TEXT, MAX_RIDS, TAIL = 200, 12, 128
NUMBERS = (
    *("step", "batch", "tokens", "seq_len_sum", "waiting", "full_size", "full_free", "swa_size", "swa_free"),
    *("allocs", "allocated", "refused", "frees", "freed", "swa_freed", "marks"),
)
_HEADER = struct.Struct("<8sIIIQQQII")
_STEP, _MARK, _CRC = struct.Struct(f"<QQB7x16s{len(NUMBERS)}q12I36x"), struct.Struct("<QQB7x16sqH200s2x"), 252
_CODE_STEP, _CODE_MARK = 1, 2
_NO_RIDS = (0,) * MAX_RIDS
_EMPTY = bytes(RECORD_BYTES)


class RingWriter:
    """A new ring file, whole under its name or not there. OSError if the disk has no room for all of it: blocks are
    reserved here, since a page that cannot be allocated later would kill the process.

    Any thread may write: a sequence number is taken, and a slot assigned, in one step of the interpreter each.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], max_bytes: int = MAX_BYTES) -> None:
        self.path, self._capacity = path, min((max_bytes - HEADER_BYTES) // RECORD_BYTES, MAX_CAPACITY)
        self._next, self._marks = itertools.count(1), itertools.count(1)
        self._marked = self._last = 0
        size = HEADER_BYTES + self._capacity * RECORD_BYTES
        temp = path.with_name(f".{path.name}.tmp")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
                self._map = mmap.mmap(file.fileno(), size)
                self._held = weakref.finalize(self, os.close, os.dup(file.fileno()))
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._map[:HEADER_BYTES] = _header(self._capacity, about)
            os.rename(temp, path)
        finally:
            temp.unlink(missing_ok=True)

    def step(self, mode: str, numbers: Sequence[int], rids: Sequence[str] = ()) -> None:
        """One step. numbers: NUMBERS but the last, which is counted here. rids: the first ones are kept, as crc32."""
        hashed = tuple(zlib.crc32(rid.encode()) for rid in rids[:MAX_RIDS]) if rids else ()
        n = next(self._next)
        fields = (*numbers, self._marked, *hashed, *_NO_RIDS[len(hashed) :])
        self._put(n, _STEP.pack(n, time.monotonic_ns(), _CODE_STEP, mode.encode()[:16], *fields))

    def mark(self, kind: str, text: str, step: int = -1) -> None:
        """Something other than a step. kind: 16 bytes are kept; text: 200."""
        self._marked = next(self._marks)
        n, said = next(self._next), text.encode(errors="replace")[:MAX_TEXT]
        name = b"mark" if kind == "step" else kind.encode(errors="replace")[:16]
        self._put(n, _MARK.pack(n, time.monotonic_ns(), _CODE_MARK, name, step, len(said), said))

    def tail(self, count: int = TAIL) -> tuple[RingRecord, ...]:
        """The last records, oldest first."""
        last = self._last
        found = (
            _record(self._map[at : at + RECORD_BYTES])
            for at in map(self._at, range(max(1, last - count + 1), last + 1))
        )
        return tuple(sorted((record for record in found if record is not None), key=lambda record: record.seq))

    def close(self) -> None:
        """Unmap. The file stays."""
        self._map.close()
        self._held()

    def _put(self, n: int, body: bytes) -> None:
        at = self._at(n)
        self._map[at : at + RECORD_BYTES] = body + zlib.crc32(body).to_bytes(4, "little")
        self._last = n

    def _at(self, n: int) -> int:
        return HEADER_BYTES + (n - 1) % self._capacity * RECORD_BYTES


def is_written(path: Path) -> bool:
    """Whether its writer still lives, in this container or another: it holds a lock that ends with it."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@dataclass(frozen=True)
class Ring:
    """A ring as read. started_ns: wall clock; started_mono_ns: the same moment on the records' clock. run: the name of
    the run directory of its `serve`, "" if there was none. records: oldest first. skipped: slots that hold something
    other than a whole record of theirs. missing: records between the first and the last that are not there."""

    pid: int
    started_ns: int
    started_mono_ns: int
    records: tuple[RingRecord, ...]
    skipped: int = 0
    missing: int = 0
    process: str = ""
    manifest: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    run: str = ""


def read_ring(path: Path) -> Ring:
    """The ring in a file, also one that is being written. UsageError: no such file; UnsafeInputError: not a ring."""
    return parse_ring(read_bytes(path))


def parse_ring(raw: bytes) -> Ring:
    """The ring in these bytes. Torn, overwritten and cut-off records are left out and counted."""
    capacity, pid, started, mono, about = _parsed_header(raw)
    found, skipped = [], 0
    for slot in range(min(capacity, (len(raw) - HEADER_BYTES) // RECORD_BYTES)):
        at = HEADER_BYTES + slot * RECORD_BYTES
        data = raw[at : at + RECORD_BYTES]
        if data == _EMPTY:
            continue
        record = _record(data)
        if record is None or (record.seq - 1) % capacity != slot:
            skipped += 1
        else:
            found.append(record)
    found.sort(key=lambda record: record.seq)
    missing = found[-1].seq - found[0].seq + 1 - len(found) if found else 0
    at_about = At("header")
    return Ring(
        *(pid, started, mono, tuple(found), skipped, missing),
        process=Text().unpack(about.get("process", ""), at_about.of("process")),
        manifest=Named(Many(Text(), list)).unpack(about.get("manifest", {}), at_about.of("manifest")),
        versions=Named(Text()).unpack(about.get("versions", {}), at_about.of("versions")),
        run=Text().unpack(about.get("run", ""), at_about.of("run")),
    )


def incident_of(ring: Ring) -> Incident:
    """The ring as something to inspect: no views, so nothing in it can be judged, only told."""
    said = f"{len(ring.records)} records, {ring.skipped} torn or foreign ones left out, {ring.missing} missing"
    return Incident(
        origin="g4diag-ring",
        manifest=ring.manifest,
        versions=ring.versions,
        context={
            **{"pid": ring.pid, "process": ring.process, "started_ns": ring.started_ns},
            **{"wall_ns": ring.started_ns, "mono_ns": ring.started_mono_ns},
        },
        notes=((Grade.MEASURED, f"flight recorder of pid {ring.pid}: {said}"),),
        ring=ring.records[-TAIL:],
    )


def _header(capacity: int, about: Mapping[str, Any]) -> bytes:
    """What does not fit is left out, the versions first."""
    for left_out in ((), ("versions",), ("versions", "manifest"), tuple(about)):
        text = json.dumps({key: value for key, value in about.items() if key not in left_out}).encode()
        if len(text) <= HEADER_BYTES - _HEADER.size:
            break
    clocks = time.time_ns(), time.monotonic_ns()
    fixed = _HEADER.pack(MAGIC, VERSION, RECORD_BYTES, capacity, os.getpid(), *clocks, len(text), 0)
    crc = zlib.crc32(fixed[:-4] + text).to_bytes(4, "little")
    return (fixed[:-4] + crc + text).ljust(HEADER_BYTES, b"\0")


def _parsed_header(raw: bytes) -> tuple[int, int, int, int, dict[str, Any]]:
    if len(raw) < HEADER_BYTES or not raw.startswith(MAGIC):
        raise UnsafeInputError(f"ring: wanted {HEADER_BYTES} bytes that start with {MAGIC!r}, found {raw[:8]!r}")
    _, version, record_bytes, capacity, pid, started, mono, length, crc = _HEADER.unpack_from(raw)
    if version != VERSION:
        raise UnsafeInputError(f"ring: wanted version {VERSION}, found {version}")
    if record_bytes != RECORD_BYTES or not 1 <= capacity <= MAX_CAPACITY:
        wanted = f"records of {RECORD_BYTES} bytes, 1 to {MAX_CAPACITY} of them"
        raise UnsafeInputError(f"ring: wanted {wanted}, found {record_bytes} bytes and {capacity}")
    text = raw[_HEADER.size : _HEADER.size + length] if length <= HEADER_BYTES - _HEADER.size else b""
    if len(text) != length or zlib.crc32(raw[: _HEADER.size - 4] + text) != crc or max(pid, started, mono) > INT64.max:
        raise UnsafeInputError("ring: the header fails its checksum")
    about = parse_json(text)
    if not isinstance(about, dict):
        raise UnsafeInputError("ring: header: wanted a JSON object, found something else")
    return capacity, pid, started, mono, about


def _record(data: bytes) -> RingRecord | None:
    """None for what is not a whole record."""
    seq, moment, code = struct.unpack_from("<QQB", data)
    whole = int.from_bytes(data[_CRC:], "little") == zlib.crc32(data[:_CRC])
    if not whole or not 1 <= seq <= INT64.max or moment > INT64.max:
        return None
    if code == _CODE_STEP:
        mode, *rest = _STEP.unpack(data[:_CRC])[3:]
        numbers = dict(zip(NUMBERS, rest, strict=False))
        rids = tuple(f"{rid:08x}" for rid in rest[len(NUMBERS) :] if rid)
        return RingRecord(seq, moment, "step", mode=_word(mode), rids=rids, **numbers)
    if code == _CODE_MARK:
        kind, step, length, text = _MARK.unpack(data[:_CRC])[3:]
        said = text[:length].decode(errors="replace")
        return RingRecord(seq, moment, _word(kind), step=step, text=said)
    return None


def _word(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
