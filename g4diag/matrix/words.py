"""The matrix in words: the releases that a bug is alive in, as reports name them, and the table of all bugs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from packaging.specifiers import SpecifierSet

from g4diag.matrix.cells import Cell, Matrix

_SHORT = {"alive": "alive", "cured": "cured", "not there yet": "-", "cannot run": "cannot run", "unknown": "?"}
_UNKNOWN = ("unknown", "cannot run")


def affected_releases(found: Matrix, bug: str) -> str:
    """Where the bug is alive, how that is known, and which releases nobody could tell of; "" for a bug without cells.
    As `0.5.13 .. 0.5.16 (ran: 0.5.13; else read); not known: 0.5.17`."""
    cells = {cell.release: cell for cell in found.row(bug)}
    if not cells:
        return ""
    alive = [cell for cell in cells.values() if cell.standing == "alive"]
    dark = [name for name in found.releases if name not in cells or cells[name].standing in _UNKNOWN]
    clear = [name for name in found.releases if name not in dark]
    said = f"{_spans(found.releases, [cell.release for cell in alive])} ({_known_by(alive)})"
    if not alive:
        said = f"none of {_spans(found.releases, clear)}" if clear else "none known"
    return said + (f"; not known: {_spans(found.releases, dark)}" if dark else "")


def releases_in(found: Matrix, wanted: str) -> str:
    """The known releases of a PEP 440 range, as `0.5.13 .. 0.5.16, 0.5.18`; the range as it stands where it has none,
    for builds between them."""
    range_of = SpecifierSet(wanted)
    return _spans(found.releases, [name for name in found.releases if name in range_of]) or f"builds of {wanted}"


def table(found: Matrix) -> str:
    """All bugs against all releases as a Markdown table: a row a bug, a column a release. What was only read is in
    italics; `?`: nobody looked, or could tell."""
    rows = [["bug", *found.releases], ["---"] * (len(found.releases) + 1)]
    for bug in found.bugs:
        rows.append([f"`{bug}`", *(_cell(found.cell(bug, release)) for release in found.releases)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return _SHORT["unknown"]
    shown = _SHORT[cell.standing]
    return shown if cell.ran or cell.standing in _UNKNOWN else f"*{shown}*"


def _known_by(cells: Sequence[Cell]) -> str:
    ran = [cell.release for cell in cells if cell.ran]
    if not ran:
        return "read"
    return "ran" if len(ran) == len(cells) else f"ran: {', '.join(ran)}; else read"


def _spans(releases: Sequence[str], some: Sequence[str]) -> str:
    """Those that stand next to each other as first .. last."""
    runs = _runs(releases, lambda name: name in some)
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} .. {run[-1]}" for run in runs)


def _runs(names: Sequence[str], holds: Callable[[str], bool]) -> Iterator[list[str]]:
    run: list[str] = []
    for name in names:
        if holds(name):
            run.append(name)
        elif run:
            yield run
            run = []
    if run:
        yield run
