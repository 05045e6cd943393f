"""The matrix of releases: which bug stands how in which release of sglang, as data, and its reader.

`cells.json` holds one cell a bug and release, by running or by reading. TRIAGE's table, what reports say of a known
issue and `doctor --sglang-version` come from it. A bug is named by its entry in known_issues.toml, which is the name
of the scenario that shows it where there is one.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any, Literal, get_args

from packaging.version import InvalidVersion, Version

from g4diag.errors import UsageError

Standing = Literal["alive", "cured", "not there yet", "cannot run", "unknown"]
STANDINGS: tuple[Standing, ...] = get_args(Standing)
SCHEMA = 1
_ABOUT = (
    "How each bug stands in each release of sglang. scenario: what `g4diag repro` runs; issue: an entry of "
    "known_issues.toml that no scenario shows. ran: by running `command`, on the date; else by reading `source`. "
    "Written by g4diag.matrix.cells; one cell a line."
)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Cell:
    """One bug in one release. Exactly one of scenario and issue names it. standing: `not there yet` where the release
    lacks what the bug is in; `cannot run` where the scenario was tried and could not be judged; `unknown` where nobody
    could tell. why: what was seen. date: as 2026-11-28. command: what was run. source: where it ran or what was read.
    """

    scenario: str
    issue: str
    release: str
    standing: Standing
    ran: bool
    why: str
    date: str
    command: str
    source: str

    @property
    def bug(self) -> str:
        """The name that scenario and known issue share."""
        return self.scenario or self.issue


@dataclass(frozen=True)
class Matrix:
    """releases: the known ones, oldest first. cells: in the order of the bugs' first cells, then of the releases."""

    releases: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def bugs(self) -> tuple[str, ...]:
        """Every bug that has a cell, in the order of the data."""
        return tuple(dict.fromkeys(cell.bug for cell in self.cells))

    def cell(self, bug: str, release: str) -> Cell | None:
        """None where nobody looked."""
        return next((cell for cell in self.cells if (cell.bug, cell.release) == (bug, release)), None)

    def row(self, bug: str) -> tuple[Cell, ...]:
        """Its cells, oldest release first."""
        return tuple(cell for cell in self.cells if cell.bug == bug)


@functools.cache
def matrix() -> Matrix:
    """The data of this package. ValueError where it is malformed: it is ours."""
    return read(resources.files("g4diag.matrix").joinpath("cells.json").read_text(encoding="utf-8"))


def read(text: str) -> Matrix:
    """The matrix in a file's text. ValueError names the cell that is wrong, what was wanted and what was found."""
    document: dict[str, Any] = json.loads(text)
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema: wanted {SCHEMA}, found {document.get('schema')!r}")
    releases = tuple(document["releases"])
    cells = [_cell(row, releases) for row in document["cells"]]
    often = Counter((cell.bug, cell.release) for cell in cells)
    if twice := [key for key, count in often.items() if count > 1]:
        raise ValueError(f"wanted one cell a bug and release, found two of {min(twice)}")
    return Matrix(releases, _ordered(cells, releases))


def replaced(before: Matrix, cells: Iterable[Cell]) -> Matrix:
    """With these cells in place of those of the same bug and release. ValueError as `read`."""
    new = {(cell.bug, cell.release): cell for cell in cells}
    kept = [new.pop((cell.bug, cell.release), cell) for cell in before.cells]
    return read(rendered(Matrix(before.releases, (*kept, *new.values()))))


def rendered(found: Matrix) -> str:
    """The text of the data file: one cell a line, so that a change is seen as one."""
    lines = [json.dumps(_row(cell), ensure_ascii=True) for cell in _ordered(found.cells, found.releases)]
    head = {"about": _ABOUT, "schema": SCHEMA, "releases": list(found.releases)}
    told = "\n".join(f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items())
    return f'{{\n{told}\n  "cells": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"


def known_release(text: str, found: Matrix) -> str:
    """The release among the known ones that `text` names, as 0.5.13.post1; a local part, as in +cu129, is its build's.
    UsageError for a text that is no version; KeyError, with the version as it is normally written, for another one."""
    try:
        version = Version(text)
    except InvalidVersion:
        raise UsageError(f"wanted a release of sglang such as {found.releases[-1]}, found {text!r}") from None
    known = {Version(release): release for release in found.releases}
    if Version(version.public) not in known:
        raise KeyError(str(version))
    return known[Version(version.public)]


def _row(cell: Cell) -> dict[str, Any]:
    """Of scenario and issue the one that names the bug."""
    return {name: value for name, value in asdict(cell).items() if value != "" or name not in ("scenario", "issue")}


def _ordered(cells: Sequence[Cell], releases: Sequence[str]) -> tuple[Cell, ...]:
    bugs = {bug: n for n, bug in enumerate(dict.fromkeys(cell.bug for cell in cells))}
    return tuple(sorted(cells, key=lambda cell: (bugs[cell.bug], releases.index(cell.release))))


def _cell(row: dict[str, Any], releases: Sequence[str]) -> Cell:
    given = {"scenario": "", "issue": ""} | row
    wanted_keys = {field.name for field in fields(Cell)}
    if given.keys() != wanted_keys:
        raise ValueError(f"a cell: wanted {sorted(wanted_keys)}, found {sorted(given)}")
    cell = Cell(**given)
    where = f"cell {cell.bug or '?'} of {cell.release}"
    for fits, wanted, found in (
        (bool(cell.scenario) != bool(cell.issue), "a scenario or an issue", f"{cell.scenario!r} and {cell.issue!r}"),
        (_NAME.fullmatch(cell.bug), "a name with dashes", repr(cell.bug)),
        (cell.release in releases, f"one of {', '.join(releases)}", repr(cell.release)),
        (cell.standing in STANDINGS, f"one of {', '.join(STANDINGS)}", repr(cell.standing)),
        (type(cell.ran) is bool, "ran: true or false", repr(cell.ran)),
        (_is_date(cell.date), "a date such as 2026-11-28", repr(cell.date)),
        (cell.command if cell.ran else cell.source, "the command that ran, or the source that was read", "neither"),
        (cell.why or cell.standing not in ("cannot run", "unknown"), f"why it is {cell.standing}", "nothing"),
    ):
        if not fits:
            raise ValueError(f"{where}: wanted {wanted}, found {found}")
    return cell


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except (TypeError, ValueError):
        return False
