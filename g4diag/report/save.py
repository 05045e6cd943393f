"""A report's file: whole under its name, or not there; and never in place of anything but an earlier report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from g4diag.atomic_write import atomic_write
from g4diag.errors import UsageError, unwritable

# Kind of report -> how it begins, and what g4diag writes near its beginning.
_OURS = {
    "HTML": ("<!DOCTYPE html>", '<meta name="generator" content="g4diag '),
    "Markdown": ("### Describe the bug\n", "`g4diag inspect` on "),
}
_HEAD = 4096


def refuse_to_overwrite(path: Path, kind: str, inputs: Sequence[Path]) -> str:
    """UsageError if a report at `path` would replace one of `inputs`, or anything but an earlier report of `kind`
    ("HTML" or "Markdown"). Ask before anything is written. What to say of an earlier report that will be replaced,
    else "".
    """
    try:
        if any(_same(path, given) for given in inputs):
            raise UsageError(f"{path}: wanted a file to write to, found one of the inputs")
        if path.is_dir() or not path.name:
            raise UsageError(f"{path}: wanted a file to write to, found a folder")
        if not os.path.lexists(path):
            return ""
        if not path.is_file() or not _is_ours(path, kind):
            raise UsageError(f"{path}: wanted a new file or an earlier {kind} report of g4diag's, found something else")
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
    return ", in place of an earlier one"


def _same(path: Path, given: Path) -> bool:
    return path.resolve() == given.resolve() or (path.exists() and given.exists() and path.samefile(given))


def _is_ours(path: Path, kind: str) -> bool:
    begins, holds = _OURS[kind]
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head.startswith(begins.encode()) and holds.encode() in head


def save(text: str, path: Path) -> None:
    """Write `text` as UTF-8 beside `path`, then rename. UsageError if the folder or the disk refuses."""
    try:
        atomic_write(path, text)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
