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
from g4diag.model import Grade, Incident, IntArray, RingRecord

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
_CODE_STEP, _CODE_MARK = _CODES = 1, 2
# Where a record holds what is looked at before it is unpacked; marks that tell ranks, as they lie there.
_LOOKED_AT = {
    "names": ["seq", "time", "code", "crc"],
    "formats": ["<u8", "<u8", "u1", "<u4"],
    "offsets": [0, 8, 16, _CRC],
}
_KIND_AT, _TELL_RANKS = 24, (b"start\0", b"ranks\0")
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
        self._ranks = ""
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
        if self._ranks and n % (self._capacity // 2 or 1) == 0:
            self.mark("ranks", self._ranks)

    def start(self, ranks: str) -> None:
        """The mark of a process that begins, and which ranks it has: said again before the ring has lost it."""
        self.mark("start", ranks)
        self._ranks = ranks

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
    other than a whole record of theirs. missing: records between the first and the last that are not there. count: of
    whole records, those too that were not asked for. ranks: as the process said them last, "" if it did not."""

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
    count: int = 0
    ranks: str = ""


def read_ring(path: Path) -> Ring:
    """The ring in a file, also one that is being written. UsageError: no such file; UnsafeInputError: not a ring."""
    return parse_ring(read_bytes(path))


def parse_ring(raw: bytes, last: int | None = None) -> Ring:
    """The ring in these bytes. Torn, overwritten and cut-off records are left out and counted. last: make records of
    that many only, the last ones; all are checked and counted."""
    capacity, pid, started, mono, about = _parsed_header(raw)
    seq_N, slot_N, code_N, skipped = _whole(raw, capacity)
    missing = int(seq_N[-1] - seq_N[0]) + 1 - len(seq_N) if len(seq_N) else 0
    wanted = slot_N if last is None else slot_N[max(len(slot_N) - last, 0) :]
    at_about = At("header")
    return Ring(
        *(pid, started, mono, tuple(_unpacked(_slot(raw, slot)) for slot in wanted.tolist()), skipped, missing),
        process=Text().unpack(about.get("process", ""), at_about.of("process")),
        manifest=Named(Many(Text(), list)).unpack(about.get("manifest", {}), at_about.of("manifest")),
        versions=Named(Text()).unpack(about.get("versions", {}), at_about.of("versions")),
        run=Text().unpack(about.get("run", ""), at_about.of("run")),
        count=len(seq_N),
        ranks=_ranks(raw, slot_N[code_N == _CODE_MARK].tolist()),
    )


def _whole(raw: bytes, capacity: int) -> tuple[IntArray, IntArray, IntArray, int]:
    """Of the whole records by seq: uint64[N] seqs, int64[N] slots, uint8[N] codes; and how many slots hold something
    else. Array at a time: a folder
    may hold a million records."""
    import numpy as np

    count = min(capacity, (len(raw) - HEADER_BYTES) // RECORD_BYTES)
    bytes_NR = np.frombuffer(raw, np.uint8, count * RECORD_BYTES, HEADER_BYTES).reshape(count, RECORD_BYTES)
    used_N = np.flatnonzero(bytes_NR.view("<u8").any(axis=1))
    view = memoryview(raw)
    starts = (HEADER_BYTES + used_N * RECORD_BYTES).tolist()
    crc_N = np.fromiter((zlib.crc32(view[at : at + _CRC]) for at in starts), np.uint32, len(starts))
    layout = np.dtype({**_LOOKED_AT, "itemsize": RECORD_BYTES})  # type: ignore[call-overload]
    head_N = np.frombuffer(raw, layout, count, HEADER_BYTES)[used_N]
    seq_N, slot_N = head_N["seq"], used_N.astype(np.uint64)
    good_N = (crc_N == head_N["crc"]) & (seq_N >= 1) & (seq_N <= INT64.max) & (head_N["time"] <= INT64.max)
    good_N &= ((seq_N - np.uint64(1)) % np.uint64(capacity) == slot_N) & np.isin(head_N["code"], _CODES)
    in_order = np.flatnonzero(good_N)[np.argsort(seq_N[good_N])]
    return seq_N[in_order], used_N[in_order], head_N["code"][in_order], int((~good_N).sum())


def _ranks(raw: bytes, marks: Sequence[int]) -> str:
    """What the last of these slots that tells ranks says."""
    said = (data for slot in reversed(marks) if (data := _slot(raw, slot)).startswith(_TELL_RANKS, _KIND_AT))
    return next((_unpacked(data).text for data in said), "")


def incident_of(ring: Ring) -> Incident:
    """The ring as something to inspect: no views, so nothing in it can be judged, only told."""
    said = f"{ring.count} records, {ring.skipped} torn or foreign ones left out, {ring.missing} missing"
    return Incident(
        origin="g4diag-ring",
        manifest=ring.manifest,
        versions=ring.versions,
        context={
            **{"pid": ring.pid, "process": ring.process, "started_ns": ring.started_ns},
            **{"wall_ns": ring.started_ns, "mono_ns": ring.started_mono_ns},
            **({"ranks": ring.ranks} if ring.ranks else {}),
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


def _slot(raw: bytes, slot: int) -> bytes:
    at = HEADER_BYTES + slot * RECORD_BYTES
    return raw[at : at + RECORD_BYTES]


def _record(data: bytes) -> RingRecord | None:
    """None for what is not a whole record."""
    seq, moment, code = struct.unpack_from("<QQB", data)
    whole = int.from_bytes(data[_CRC:], "little") == zlib.crc32(data[:_CRC])
    return _unpacked(data) if whole and 1 <= seq <= INT64.max and moment <= INT64.max and code in _CODES else None


def _unpacked(data: bytes) -> RingRecord:
    """Of a whole record."""
    seq, moment, code = struct.unpack_from("<QQB", data)
    if code == _CODE_STEP:
        mode, *rest = _STEP.unpack(data[:_CRC])[3:]
        numbers = dict(zip(NUMBERS, rest, strict=False))
        rids = tuple(f"{rid:08x}" for rid in rest[len(NUMBERS) :] if rid)
        return RingRecord(seq, moment, "step", mode=_word(mode), rids=rids, **numbers)
    kind, step, length, text = _MARK.unpack(data[:_CRC])[3:]
    return RingRecord(seq, moment, _word(kind), step=step, text=text[:length].decode(errors="replace"))


def _word(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
