"""A report's file: whole under its name, or not there."""

from __future__ import annotations

import os
from pathlib import Path

from g4diag.errors import UsageError


def save(text: str, path: Path) -> None:
    """Write `text` as UTF-8 beside `path`, then rename. UsageError if the folder or the disk refuses."""
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temp.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temp, path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path}: cannot be written: {reason}") from None
    finally:
        temp.unlink(missing_ok=True)
