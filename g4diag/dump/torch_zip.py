"""Open torch's zip container as hostile input: limits first, then bytes by name. No torch, no unpickling."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from g4diag.errors import UnsafeInputError, UsageError

MAX_FILE_BYTES = 64 << 20
MAX_ENTRIES = 1 << 14
# What torch.save writes below its one top folder; TorchScript archives (code/, constants.pkl) are refused.
_INNER = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]+"
)

_CRASH_DUMP_KEYS = (b"server_args", b"requests", b"launch_command")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of an UnsafeInputError that does not have it yet."""
    try:
        yield
    except UnsafeInputError as error:
        text = str(error)
        raise type(error)(text if text.startswith(f"{path}: ") else f"{path}: {text}") from None


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size in bytes. UsageError if it cannot be opened, or is a folder, pipe, device or socket,
    or if reading it fails inside."""
    try:
        # Asked before it is opened too: opening is enough to wake some devices.
        _wanted_regular(path, path.stat())
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{str(path)!r}: {error}") from None
    with file:
        status = os.fstat(file.fileno())
        _wanted_regular(path, status)
        try:
            yield file, status.st_size
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from None


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file of at most `limit`. UsageError as `open_regular`, UnsafeInputError for its size.

    What the kernel makes up while it is read, as in /proc, says that it is empty; it is taken at its word.
    """
    with open_regular(path) as (file, size):
        if size > limit:
            raise UnsafeInputError(f"file size: wanted at most {limit} bytes, found {size}")
        raw = file.read(size)
    if len(raw) != size:
        raise UnsafeInputError(f"file size: wanted the {size} bytes that it claims, found {len(raw)}")
    return raw


def _wanted_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path}: not a regular file")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def read_entries(raw: bytes) -> dict[str, bytes]:
    """Entry name below the top folder -> its bytes, checksums verified.

    Nothing is decompressed: torch stores entries as they are, so a compressed one is refused before any
    allocation, and no entry can be larger than the file. Raises UnsafeInputError.
    """
    _refuse_other_formats(raw)
    # Every entry has one of these marks in the directory, whatever the directory says of its own length.
    if (marks := raw.count(b"PK\x01\x02")) > MAX_ENTRIES:
        raise UnsafeInputError(f"archive entries: wanted at most {MAX_ENTRIES}, found marks of {marks}")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = checked_names(archive, len(raw))
            return {name: archive.read(info) for name, info in names.items()}
    except UnsafeInputError:
        raise
    except Exception as error:
        # zipfile answers hostile bytes with a dozen unrelated exceptions; to us they are all one thing.
        raise UnsafeInputError(f"corrupt or truncated archive: {in_words(error)}") from None


def in_words(error: Exception) -> str:
    """What a reader of others' bytes ran into, without the name of a Python class."""
    if isinstance(error, UnicodeError):
        return "a byte that belongs to no text"
    said = str(error).strip()
    return said if isinstance(error, zipfile.BadZipFile) and said else "its bytes do not fit together"


def _refuse_other_formats(raw: bytes) -> None:
    if raw.startswith(b"PK\x03\x04"):
        return
    if raw.startswith(b"\x80") and all(key in raw for key in _CRASH_DUMP_KEYS):
        raise UnsafeInputError(
            "a pickle with the keys of sglang's request dump (--crash-dump-folder): reading it would run what is in "
            "it, and it holds prompts, not page tables; inspect the server's log, core dump or g4diag dumps instead"
        )
    if raw.startswith(b"\x80"):
        raise UnsafeInputError(
            "a bare pickle or a pre-1.6 torch file: reading it would run what is in it; save it again with torch.save"
        )
    known = "wanted a torch zip file, a ring, a post-mortem, a server log or a CUDA core dump"
    raise UnsafeInputError(f"not a dump: {known}, found another format" if raw else "empty file")


def checked_names(archive: zipfile.ZipFile, file_bytes: int) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    roots, names = set(), {}
    for info in infos:
        root, _, inner = info.filename.partition("/")
        if not root or root in (".", "..") or "\\" in root or not _INNER.fullmatch(inner):
            found = repr(info.filename[:80])
            raise UnsafeInputError(f"archive entry: wanted a torch tensor archive's names, found {found}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            size = f"{info.compress_size} bytes that claim to become {info.file_size}"
            raise UnsafeInputError(f"archive entry {inner!r}: wanted stored bytes, found {size}")
        if info.flag_bits & 0x1 or inner in names:
            raise UnsafeInputError(f"archive entry {inner!r}: encrypted or present twice")
        roots.add(root)
        names[inner] = info
    if sum(info.file_size for info in infos) > file_bytes:
        raise UnsafeInputError("archive entries overlap: together they are larger than the file")
    if len(roots) != 1 or "data.pkl" not in names:
        raise UnsafeInputError("not a torch file: wanted one top folder holding data.pkl")
    return names
