"""Open torch's zip container as hostile input: limits first, then bytes by name. No torch, no unpickling."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from pathlib import Path

from g4diag.errors import UnsafeInputError, UsageError

MAX_FILE_BYTES = 64 << 20
MAX_ENTRIES = 1 << 14
# What torch.save writes below its one top folder; TorchScript archives (code/, constants.pkl) are refused.
_INNER = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]+"
)


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file of at most MAX_FILE_BYTES. UsageError if it cannot be opened or is no file."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(path.stat().st_mode):
                raise UsageError(f"{path}: not a regular file")
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{str(path)!r}: {error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise UnsafeInputError(f"file size: wanted at most {MAX_FILE_BYTES} bytes, found more")
    return raw


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_entries(raw: bytes) -> dict[str, bytes]:
    """Entry name below the top folder -> its bytes, checksums verified.

    Nothing is decompressed: torch stores entries as they are, so a compressed one is refused before any
    allocation, and no entry can be larger than the file. Raises UnsafeInputError.
    """
    _refuse_other_formats(raw)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = _checked_names(archive, len(raw))
            return {name: archive.read(info) for name, info in names.items()}
    except UnsafeInputError:
        raise
    except Exception as error:
        # zipfile answers hostile bytes with a dozen unrelated exceptions; to us they are all one thing.
        raise UnsafeInputError(f"corrupt or truncated archive: {type(error).__name__}: {error}") from None


def _refuse_other_formats(raw: bytes) -> None:
    if raw.startswith(b"PK\x03\x04"):
        return
    if raw.startswith(b"\x80"):
        raise UnsafeInputError(
            "a bare pickle or a pre-1.6 torch file: reading it would run what is in it; save it again with torch.save"
        )
    raise UnsafeInputError("empty file" if not raw else "not a dump: wanted a torch zip file, found another format")


def _checked_names(archive: zipfile.ZipFile, file_bytes: int) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise UnsafeInputError(f"archive entries: wanted at most {MAX_ENTRIES}, found {len(infos)}")
    roots, names = set(), {}
    for info in infos:
        root, _, inner = info.filename.partition("/")
        if not root or root in (".", "..") or "\\" in root or not _INNER.fullmatch(inner):
            raise UnsafeInputError(f"archive entry: wanted a torch tensor archive's names, found {info.filename!r}")
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
