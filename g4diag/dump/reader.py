"""One door for every file of ours and the seed's two kinds. A ring or a post-mortem tells, but cannot be judged."""

from __future__ import annotations

from pathlib import Path

from g4diag.dump import legacy, postmortem, ring
from g4diag.dump.archive import read_bytes
from g4diag.dump.safety import parse_plain
from g4diag.dump.schema import FORMAT, from_document
from g4diag.errors import UnsafeInputError
from g4diag.model import Incident


def read_dump(path: Path) -> Incident:
    """The incident in `path`. Needs neither torch nor sglang, and executes nothing from the file.

    Raises UsageError if there is no such regular file, UnsafeInputError if it is corrupt, truncated, not ours,
    from a newer format, or holds anything but plain values and tensors.
    """
    raw = read_bytes(path)
    if raw.startswith(ring.MAGIC):
        return ring.incident_of(ring.parse_ring(raw))
    if raw.startswith(b"{"):
        return postmortem.incident_of(postmortem.parse(raw))
    document = parse_plain(raw)
    if document.get("format") == FORMAT:
        return from_document(document)
    if legacy.is_page_table(document):
        return legacy.from_page_table(document)
    if legacy.is_allocator(document):
        return legacy.from_allocator(document)
    keys = ", ".join(repr(key[:32]) for key in list(document)[:4]) or "no keys"
    raise UnsafeInputError(f"not ours: wanted format {FORMAT!r} or one of the seed's two kinds, found {keys}")
