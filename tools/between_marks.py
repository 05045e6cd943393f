"""A generated table in a document that people write: it stands between two marks, and only that is written anew."""

from __future__ import annotations

from pathlib import Path


def put(text: str, begin: str, table: str, end: str) -> str:
    """`text` with the table between its marks. ValueError where they are not there, once and in order."""
    head, found, rest = text.partition(begin)
    _, closing, tail = rest.partition(end)
    if not found or not closing or begin in rest or end in tail:
        raise ValueError(f"wanted one {begin} and one {end} after it, found another")
    return f"{head}{begin}\n{table}\n{end}{tail}"


def write(document: Path, begin: str, table: str, end: str) -> None:
    """The same in a file; prints whether it changed."""
    before = document.read_text(encoding="utf-8")
    after = put(before, begin, table, end)
    document.write_text(after, encoding="utf-8")
    print(f"{document.name}: {'as it was' if after == before else 'written'}")
