"""Write hostile evidence into a folder: `python tests/hostile/make.py FOLDER`. The same files every time.

Each must end `g4diag inspect` with exit 5, or 2 where it is no regular file, and one line. A file that manages to run
code creates `canary` beside the folder. None is kept in the repository: virus scanners would be right to complain.
"""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.hostile.assembler import STORAGES, archive, dump, entry, program
from tests.hostile.programs import Files, programs, running_code, tensors


def zips() -> Files:
    """Archives that lie about themselves around a healthy document."""
    good = program(dump())
    whole = archive(good, STORAGES)
    yield "zip-bomb.pt", archive(good, STORAGES, ("a/data/9", bytes(200 << 20)), method=zipfile.ZIP_DEFLATED)
    yield "zip-bzip2.pt", archive(good, STORAGES, method=zipfile.ZIP_BZIP2)
    yield "zip-lzma.pt", archive(good, STORAGES, method=zipfile.ZIP_LZMA)
    yield "zip-many.pt", archive(good, STORAGES, *((f"a/data/{n}", b"") for n in range(10, 100_000)))
    for key, path in {
        "up": "../evil",
        "inside-up": "a/../../evil",
        "absolute": "/etc/cron.d/evil",
        "backslash": "a\\..\\evil",
        "code": "a/code/__torch__.py",
        "fullwidth": "a/\uff44ata.pkl",
        "right-to-left": "a/\u202edata.pkl",
        "escape": "a/\x1b[2Jdata.pkl",
        "long": "a/" + "x" * 60_000,
        "two-roots": "b/data.pkl",
    }.items():
        yield f"zip-name-{key}.pt", archive(good, STORAGES, (path, b"x"))
    lies = {
        "encrypted": (b"PK\x01\x02", 8, b"\x01"),
        "central-name": (b"PK\x01\x02", 46, b"b"),
        "local-name": (b"PK\x03\x04", 30, b"b"),
        "crc": (b"PK\x01\x02", 16, b"\xff\xff"),
        "size": (b"PK\x01\x02", 24, b"\xff\xff\xff\x7f"),
        "both-sizes": (b"PK\x01\x02", 20, b"\xff\xff\xff\x7f\xff\xff\xff\x7f"),
        "offset": (b"PK\x01\x02", 42, b"\xf0\xff\xff\x7f"),
        "directory-offset": (b"PK\x05\x06", 16, b"\xff\xff\xff\x7f"),
        "directory-size": (b"PK\x05\x06", 12, b"\xff\xff\xff\x7f"),
        "method": (b"PK\x01\x02", 10, b"\x63"),
    }
    for key, (mark, at, lie) in lies.items():
        where = whole.index(mark) + at
        yield f"zip-lie-{key}.pt", whole[:where] + lie + whole[where + len(lie) :]
    yield "zip-twice.pt", _twice(good)
    yield "zip-zip64.pt", _zip64(whole)
    yield "zip-overlap.pt", _overlap(whole)
    yield "zip-after-a-program.pt", b"MZ" + whole
    for part in range(1, 10):
        yield f"cut-at-{part}0-percent.pt", whole[: len(whole) * part // 10]


def _twice(good: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr(entry("a/data.pkl"), good)
        made.writestr(entry("a/data.pkX"), good)
    return out.getvalue().replace(b"a/data.pkX", b"a/data.pkl")


def _zip64(whole: bytes) -> bytes:
    """The end record hands over to a zip64 one that claims 2**40 entries in a directory of 2**50 bytes."""
    end = whole.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 50, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return (
        whole[:end]
        + record
        + locator
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, *(0xFFFF,) * 2, *(0xFFFFFFFF,) * 2, 0)
    )


def _overlap(whole: bytes) -> bytes:
    """Both storages at the place of the first."""
    first, second = (whole.index(b"a/data/" + key, whole.index(b"PK\x01\x02")) - 46 for key in (b"0", b"1"))
    return whole[: second + 42] + whole[first + 42 : first + 46] + whole[second + 46 :]


def texts() -> Files:
    """JSON that starts like a post-mortem."""
    head = '{"schema": "g4diag.postmortem", "version": 1, "cause": "x", "line": "x", "grade": "guess", "status": 1'
    bodies = {
        "deep": head + ', "flags": ' + "[" * 1_000_000,
        "deep-objects": head + ', "verdicts": ' + '{"a":' * 200_000,
        "digits": head + ', "seconds": ' + "9" * 1_000_000 + "}",
        "large-number": head + ', "seconds": ' + "9" * 30 + "}",
        "nan": head + ', "seconds": NaN}',
        "infinite": head + ', "verdicts": [{"file": "x", "data": {"x": 1e999}}]}',
        "twice": head + ', "status": 0}',
        "keys": head + ', "versions": {' + ", ".join(f'"k{n}": "v"' for n in range(1_000_000)) + "}}",
        "types": head + ', "flags": {"0": "x"}}',
        "version": head.replace('"version": 1', '"version": 99') + "}",
        "schema": '{"schema": "\\u001b[2J<script>", "version": 1}',
        "escapes-in-a-key": head + ', "versions": {"\\u001b]0;x\\u0007\\u202e<b>": 7}}',
        "cut": head,
        "not-utf-8": head + ', "signal": "\udcff\udcfe"}',
        "words": head + ', "grade": "\\ud800"}',
        "records": head + ', "rings": [{"file": "x", "pid": 1, "records": [{"seq": 1}]}]}',
    }
    yield from ((f"json-{key}.json", body.encode("utf-8", "surrogateescape")) for key, body in bodies.items())


def rings() -> Files:
    """Flight recorder files whose header lies, with a right checksum where that is not the lie."""
    yield "ring-magic-only.g4ring", b"G4DRING\0"
    yield "ring-cut.g4ring", _ring()[:100]
    yield "ring-crc.g4ring", _ring(crc=1)
    yield "ring-version.g4ring", _ring(version=99)
    yield "ring-record-of-nothing.g4ring", _ring(record=0)
    yield "ring-capacity.g4ring", _ring(capacity=0xFFFFFFFF)
    yield "ring-header-length.g4ring", _ring(length=0xFFFFFFFF)
    yield "ring-header-list.g4ring", _ring(about=[])
    yield "ring-header-types.g4ring", _ring(about={"process": ["\x1b[2J"]})
    yield "ring-header-manifest.g4ring", _ring(about={"manifest": {"patches": "<script>"}})
    yield "ring-header-deep.g4ring", _ring(text=b"[" * 4000)
    yield "ring-clock.g4ring", _ring(clock=(1 << 64) - 1)


def _ring(
    about: Any = None,
    text: bytes = b"",
    version: int = 1,
    record: int = 256,
    capacity: int = 4,
    clock: int = 1,
    length: int | None = None,
    crc: int | None = None,
) -> bytes:
    text = text or json.dumps({} if about is None else about).encode()
    size = len(text) if length is None else length
    fixed = struct.pack("<8sIIIQQQI", b"G4DRING\0", version, record, capacity, 1, clock, 1, size)
    check = zlib.crc32(fixed + text) if crc is None else crc
    return (fixed + struct.pack("<I", check) + text).ljust(4096 + 4 * 256, b"\0")


def others() -> Files:
    """What is no evidence at all."""
    yield "empty.pt", b""
    yield "zeros.pt", bytes(1 << 20)
    yield "gzip.pt", b"\x1f\x8b\x08" + bytes(100)
    yield "length.safetensors", struct.pack("<Q", 1 << 62) + b'{"x":' + b" " * 100
    lie = b'{"x":{"dtype":"I32","shape":[4,999999999999],"data_offsets":[0,99]}}'
    yield "shape.safetensors", struct.pack("<Q", len(lie)) + lie + b"abcd"
    yield "core-cut.1234", b"\x7fELF\x02\x01\x01" + bytes(20)
    yield "one-line.log", b"a" * (8 << 20)
    yield "zeros.log", bytes(8) + b"a log of no crash\n" + bytes(8)
    yield "name\x1b[2J\n<script>alert(1)\u202e.pt", b"\x00\x01"


def not_files(folder: Path) -> None:
    """Names that are no regular file; opening some of them would wait for ever."""
    os.mkfifo(folder / "not-a-file-fifo.pt")
    here = os.open(".", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        # The address of a socket may be no longer than 108 bytes, its folder's may.
        os.chdir(folder)
        listening.bind("not-a-file-socket.pt")
        os.fchdir(here)
    os.close(here)
    for name, target in {"loop": "not-a-file-loop.pt", "device": "/dev/zero", "dangling": "nowhere"}.items():
        (folder / f"not-a-file-{name}.pt").symlink_to(target)
    (folder / "kernel-made.pt").symlink_to("/proc/self/environ")
    with (folder / "larger-than-any.pt").open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(1 << 34)


def make(folder: Path) -> list[Path]:
    """Everything, into a new folder; the paths, sorted."""
    folder.mkdir()
    for source in (running_code(folder.parent / "canary"), programs(), tensors(), zips(), texts(), rings(), others()):
        for name, data in source:
            (folder / name).write_bytes(data)
    not_files(folder)
    return sorted(folder.iterdir())


if __name__ == "__main__":
    print(len(make(Path(sys.argv[1]))))
