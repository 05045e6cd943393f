"""Answers kept in a file as they come, so that an interrupted search goes on where it was.

One line of JSON that says what is being made smaller, then one a candidate. The search is deterministic: with the same
answers it takes the same way, and asks anew only where they end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from g4diag.errors import UnsafeInputError, UsageError
from g4diag.minimize.emit import write
from g4diag.minimize.search import Point

FORMAT, VERSION = "g4diag-minimize", 1
MAX_BYTES = 16 << 20


class Memory:
    """header: plain values that must be equal for a file to be of use. resume: take the answers that are there.

    Raises UsageError where there are none, or of something else, and UnsafeInputError for a file that is not ours.
    """

    def __init__(self, path: Path, header: dict[str, Any], *, resume: bool) -> None:
        self.path, self._header = path, {"format": FORMAT, "version": VERSION} | header
        self._answers = _read(path, self._header) if resume else {}
        self._write_all()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, point: Point) -> bool | None:
        """The answer, None if it is not known."""
        return self._answers.get(_key(point))

    def put(self, point: Point, answer: bool) -> None:
        """Remember an answer; it is on disk when this returns."""
        self._answers[_key(point)] = answer
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(_key(point), answer))

    def forget(self) -> None:
        """Remove the file: there is no more to do."""
        self.path.unlink(missing_ok=True)

    def _write_all(self) -> None:
        lines = [_line(key, answer) for key, answer in self._answers.items()]
        write(self.path, json.dumps(self._header) + "\n" + "".join(lines))


def _read(path: Path, header: dict[str, Any]) -> dict[str, bool]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_BYTES)
    except OSError as error:
        raise UsageError(f"--resume: {path}: nothing to go on from: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnsafeInputError(f"{path}: no state file of g4diag minimize") from None
    # A line without its end was cut short when the run was: asked again.
    first, *lines = text[: text.rfind("\n") + 1].splitlines() or [""]
    found = _parsed(path, first)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UnsafeInputError(f"{path}: no state file of g4diag minimize")
    if odd := [name for name, value in header.items() if found.get(name) != value]:
        raise UsageError(
            f"--resume: {path} is of another search: {odd[0]}: wanted {header[odd[0]]}, found {found.get(odd[0])}"
        )
    answers: dict[str, bool] = {}
    for line in lines:
        match _parsed(path, line):
            case [str(key), bool(answer)]:
                answers[key] = answer
            case _:
                raise UnsafeInputError(f"{path}: no state file of g4diag minimize: {line[:80]!r}")
    return answers


def _parsed(path: Path, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UnsafeInputError(f"{path}: no state file of g4diag minimize: {line[:80]!r}") from None


def _key(point: Point) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(point.items()))


def _line(key: str, answer: bool) -> str:
    return json.dumps([key, answer]) + "\n"
