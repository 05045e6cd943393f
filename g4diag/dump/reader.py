"""One door for every file we can judge: our own dumps and the seed's two kinds."""

from __future__ import annotations

from pathlib import Path

from g4diag.dump import legacy
from g4diag.dump.safety import load_plain
from g4diag.dump.schema import FORMAT, from_document
from g4diag.errors import UnsafeInputError
from g4diag.model import Incident


def read_dump(path: Path) -> Incident:
    """The incident in `path`. Needs neither torch nor sglang, and executes nothing from the file.

    Raises UsageError if there is no such regular file, UnsafeInputError if it is corrupt, truncated, not ours,
    from a newer format, or holds anything but plain values and tensors.
    """
    document = load_plain(path)
    if document.get("format") == FORMAT:
        return from_document(document)
    if legacy.is_page_table(document):
        return legacy.from_page_table(document)
    if legacy.is_allocator(document):
        return legacy.from_allocator(document)
    keys = ", ".join(repr(key[:32]) for key in list(document)[:4]) or "no keys"
    raise UnsafeInputError(f"not ours: wanted format {FORMAT!r} or one of the seed's two kinds, found {keys}")
