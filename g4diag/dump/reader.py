"""One door for every file: ours, the fork pyc96/sglang's, server logs, CUDA core dumps. Told by content, not by name.

A ring, a post-mortem, a log or a core dump tells, but cannot be judged.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from g4diag.dump import core_dump, legacy, postmortem, ring, server_log
from g4diag.dump.safe_pickle import parse_plain
from g4diag.dump.schema import FORMAT, from_document
from g4diag.dump.torch_zip import naming, open_regular, read_bytes
from g4diag.errors import G4DiagError, UnsafeInputError, UsageError, VacuousError
from g4diag.logs.opening import packing, unpacked_head
from g4diag.model import Incident

_HEAD = 4096
# Keys under which a structured logger puts its text.
_LOGGED = {"log", "message", "msg", "event", "MESSAGE", "textPayload"}


class Kind(StrEnum):
    """What the first bytes of a file look like."""

    RING = "ring"
    JSON = "json"
    TORCH = "torch"
    PICKLE = "pickle"
    ELF = "elf"
    TEXT = "text"
    UNKNOWN = "unknown"


_MARKS = (
    (ring.MAGIC, Kind.RING),
    (b"{", Kind.JSON),
    (b"PK", Kind.TORCH),
    (b"\x80", Kind.PICKLE),
    (core_dump.ELF, Kind.ELF),
)


def kind_of(path: Path) -> Kind:
    """By its first bytes. UsageError if there is no such regular file."""
    return _kind(_head(path)[0])


def read_dump(path: Path) -> Incident:
    """The incident in `path`. Needs neither torch nor sglang, and executes nothing from the file.

    Raises UsageError if there is no such regular file, UnsafeInputError if it is corrupt, truncated, not ours,
    from a newer format, or holds anything but plain values and tensors, VacuousError for a log that is empty.
    """
    with naming(path), understood():
        head, size = _head(path)
        kind = _kind(head)
        if size == len(head) and not head.strip() and not _is_never_empty(path):
            raise VacuousError(f"{path}: empty: nothing is told in it")
        if kind is Kind.ELF:
            return core_dump.read_core(path, head, size)
        if kind is Kind.TEXT:
            if (found := _log(path)) is not None:
                return found
            raise UnsafeInputError("not a server log: text in which no line begins with a time or tells of a crash")
        if kind is Kind.JSON and b'"function_name"' in head:
            raise UsageError(f"{path}: the metadata of a logged kernel call: give the directory it is in")
        return _incident_in(read_bytes(path))


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """What a reader of ours did not foresee is that file's matter, UnsafeInputError, and costs no other of its case."""
    try:
        yield
    except (G4DiagError, MemoryError):
        raise
    except Exception as error:
        raise UnsafeInputError(f"not understood: its reader ended in {type(error).__name__}: {error}") from error


def _head(path: Path) -> tuple[bytes, int]:
    with open_regular(path) as (file, size):
        return file.read(_HEAD), size


def _is_never_empty(path: Path) -> bool:
    """Whether an empty file of that name was cut, and is no log in which nothing was said."""
    return path.suffix in (".pt", ".json", ".safetensors", ring.SUFFIX) or path.name.startswith("core")


def _kind(head: bytes) -> Kind:
    if packing(head) == "zst":
        return Kind.TEXT  # whether it can be unpacked here is said where it is read
    if packing(head) or _is_json_lines(head):
        return Kind.TEXT if server_log.looks_like_text(unpacked_head(head)) else Kind.UNKNOWN
    known = next((kind for mark, kind in _MARKS if head.startswith(mark)), None)
    return known or (Kind.TEXT if server_log.looks_like_text(head) else Kind.UNKNOWN)


def _is_json_lines(head: bytes) -> bool:
    """Whether a log's first line is one JSON object: Docker's, a structured logger's, or one line among others."""
    line, end, rest = head.partition(b"\n")
    if not line.startswith(b"{") or b'"schema"' in line or b'"function_name"' in head:
        return False
    if not end and len(head) < _HEAD:
        rest = b"{"
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and (bool(_LOGGED & said.keys()) or bool(rest.strip()))


def _log(path: Path) -> Incident | None:
    with open_regular(path) as (file, size):
        return server_log.read_log(file, size, path.name)


def _incident_in(raw: bytes) -> Incident:
    if raw.startswith(ring.MAGIC):
        return ring.incident_of(ring.parse_ring(raw, ring.TAIL))
    if raw.startswith(b"{"):
        return postmortem.incident_of(postmortem.parse(raw))
    document = parse_plain(raw)
    named = document.get("format")
    if isinstance(named, str) and named == FORMAT:
        return from_document(document)
    if legacy.is_page_table(document):
        return legacy.from_page_table(document)
    if legacy.is_allocator(document):
        return legacy.from_allocator(document)
    keys = ", ".join(repr(key[:32]) for key in list(document)[:4]) or "no keys"
    raise UnsafeInputError(f"not ours: wanted format {FORMAT!r} or a dump of the fork pyc96/sglang, found {keys}")
