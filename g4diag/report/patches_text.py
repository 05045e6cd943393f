"""The patch series as text: a line a patch, faults marked, the whole case of one, and what verifying it showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from g4diag.model.doctor import PatchRow, SkippedRow, VerifyRow
from g4diag.report.lines import line, table
from g4diag.report.plain import plain

FAULT = "FAULT"
_FITS = ("available", "applied", "upstream")
_STYLES = {FAULT: "red", "refused": "bold red", "broken": "bold red"}
_NO_SGLANG = "no sglang"
_MEANS = {
    "available": "can be put on here",
    "applied": "is on in this process",
    "upstream": "this sglang has the cure itself",
    "not-applicable": "for other releases",
    "refused": "sglang's text is not the one it was made for",
    "broken": "its file does not load",
}
# `all` is every cure that can be applied; which ones are faults stands below the table.
_DERIVED = ("in all",)


def render(rows: Sequence[PatchRow], console: Console) -> None:
    """One row a patch, what its words mean, then what the faults are. Wanted and found are told where they keep a patch
    from applying; where there is no sglang, which none can be held against, the releases that each is for."""
    is_bare = any(row.found == _NO_SGLANG for row in rows)
    if is_bare:
        line(Text(f"{_NO_SGLANG} here to hold them against: each with the releases that it is for"), console)
    styles = [_STYLES.get(FAULT if row.kind == "fault" else row.state, "") for row in rows]
    columns = ("patch", "kind", "for releases", "why") if is_bare else ("patch", "kind", "status", "in all", "why")
    table(
        columns,
        map(_bare if is_bare else _cells, rows),
        console,
        () if is_bare else _DERIVED,
        wraps=True,
        styles=styles,
    )
    for state in {} if is_bare else {row.state: None for row in rows}:
        line(Text(f"{state}: {_MEANS[state]}", style="dim"), console)
    if faults := [row.name for row in rows if row.kind == "fault"]:
        text = f"{FAULT}S put a bug back on purpose; never applied unless named: {', '.join(faults)}"
        line(Text(plain(text), style="bold red"), console)


def _bare(row: PatchRow) -> tuple[str, ...]:
    broken = f"{row.found}. " if row.state == "broken" else ""
    return row.name, FAULT if row.kind == "fault" else row.kind, row.known_releases, broken + row.why


def _cells(row: PatchRow) -> tuple[str, ...]:
    wanted = f"sglang {row.known_releases}" if row.wanted == f"sglang {row.releases}" else row.wanted
    refused = "" if row.state in _FITS else f"wanted {wanted or '-'}, found {row.found or '-'}. "
    kind = FAULT if row.kind == "fault" else row.kind
    return row.name, kind, row.state, "yes" if row.in_all else "", refused + row.why


def render_one(row: PatchRow, console: Console) -> None:
    """Everything the file says of itself, one field a line."""
    if row.kind == "fault":
        line(Text(f"{FAULT}: {plain(row.name)} puts a bug back on purpose", style="bold red"), console)
    fields = {
        "patch": f"{row.name} ({row.kind}{', a demonstration' if row.partial else ''})",
        "status": f"{row.state}; wanted {row.wanted or '-'}, found {row.found or '-'}",
        "why": row.why,
        "changes": row.how,
        "upstream": row.upstream,
        "releases": row.releases,
        "needs": ", ".join(row.needs) or "-",
        "in all": "yes" if row.in_all else "no",
        "remove when": row.remove_when,
    }
    for name, value in fields.items():
        line(Text(f"{name:>12}  ", style="bold").append(plain(value), style="default"), console)


def render_verified(rows: Sequence[VerifyRow], skipped: Sequence[SkippedRow], console: Console) -> None:
    """One line a patch, then one a target that it changed; last, how many there were, and how many were skipped."""
    for row in rows:
        mark = f" [{FAULT}]" if row.kind == "fault" else ""
        head = f"verified{mark} {row.name}" if row.verified else f"NOT VERIFIED{mark} {row.name}: {row.error}"
        head += " (upstream: sglang has it; put on over sglang's own)" * row.upstream
        line(Text(plain(head), style="green" if row.verified else "bold red"), console)
        for target in row.changed:
            line(Text(f"  changed {plain(target)}"), console)
    good = all(row.verified for row in rows)
    line(Text(_closing(rows, skipped), style="bold green" if good else "bold red"), console)


def _closing(rows: Sequence[VerifyRow], skipped: Sequence[SkippedRow]) -> str:
    """As `9 of 9 patches applied and verified, 2 of them upstream, 7 of them together too. 13 skipped: 13 faults, by
    name only`."""
    single = [row for row in rows if row.name != "all"]
    told = f"{sum(row.verified for row in single)} of {len(single)} patches applied and verified"
    if upstream := sum(row.upstream for row in single):
        told += f", {upstream} of them upstream"
    for row in rows:
        if row.name == "all":
            told += f", {len(row.changed)} of them together too" if row.verified else ", NOT all together"
    reasons = Counter(row.why for row in skipped)
    why = "; ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{told}. {len(skipped)} skipped" + f": {why}" * bool(why)
