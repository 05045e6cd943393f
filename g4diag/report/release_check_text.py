"""A server that is not installed here as text: the verdict first, then hazards, bugs and cures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from g4diag.model.release_check import BugRow, ReleaseCheck
from g4diag.report.doctor_text import hazard_lines, possible_lines, possible_named
from g4diag.report.lines import line
from g4diag.report.plain import plain

_STYLE = {0: "bold green", 1: "bold red", 4: "bold yellow"}
ASSUMED = "ASSUMED: the log names none"
_YES = {True: "yes", False: "no", None: "not known"}


def render(found: ReleaseCheck, console: Console) -> None:
    """Print the whole report to `console`."""
    _line(_verdict(found), console, _STYLE[found.exit_code])
    gpu = f"{found.gpu or 'GPU not known'} ({found.gpu_is})"
    flags = f"{len(found.flags)} flag{'' if len(found.flags) == 1 else 's'}"
    _line(f"  judged: release {found.release} ({found.release_is}), {gpu}, {flags}", console)
    _line("  NOTHING WAS LOOKED AT of the sglang, patches or plugin on this machine: this is what is on file", console)
    _section(
        "known-bad combinations",
        [said for row in found.hazards for said in hazard_lines(row)] + [*possible_lines(found.possible)]
        or ["none found"],
        console,
    )
    for title, met in (("these flags meet", True), ("these flags do not rule out", False)):
        lines = [said for row in found.bugs if row.met is met for said in _bug(row)]
        _section(f"known bugs alive in {found.release} that {title}", lines or ["none"], console)
    _section("other known bugs", _others(found), console)
    backends = (
        f"{row.name}: prefill {_YES[row.prefill]}, decode {_YES[row.decode]} ({row.why})" for row in found.backends
    )
    _section(f"attention backends of Gemma-4 in {found.release}", backends, console)
    _section(f"patches that would apply to {found.release}, by stated range", _cures(found), console)
    _section("not told", found.remarks, console)


def _verdict(found: ReleaseCheck) -> str:
    # What the answer hangs on stands in its first line.
    release = f"{found.release} ({ASSUMED})" if found.release_is.startswith("ASSUMED") else found.release
    met = sum(row.met for row in found.bugs)
    bugs = f"{met} known bug{'' if met == 1 else 's'} of it met"
    if found.hazards:
        hazards = f"{len(found.hazards)} hazard{'' if len(found.hazards) == 1 else 's'}"
        return f"KNOWN BAD: g4diag: sglang {release} with these flags: {hazards}, {bugs}"
    if found.possible:
        return f"INCONCLUSIVE: g4diag: sglang {release}: {possible_named(found.possible)}"
    return f"NO HAZARD ON FILE: g4diag: sglang {release} with these flags: {bugs}"


def _bug(row: BugRow) -> Iterator[str]:
    seen = f"ran {row.date}" if row.ran else f"read {row.date} in {row.source}"
    references = f" ({', '.join(row.references)})" if row.references else ""
    yield f"{row.name}: {row.title}{references}"
    yield f"  {seen}: {row.why}"
    if row.missing:
        yield f"  not told: {', '.join(row.missing)}"
    yield f"  cure: {row.cure}"


def _others(found: ReleaseCheck) -> Iterator[str]:
    yield f"alive there, and these flags rule them out: {', '.join(found.ruled_out) or 'none'}"
    yield f"not known of {found.release}: {', '.join(found.unknown) or 'none'}"


def _cures(found: ReleaseCheck) -> Iterator[str]:
    for row in sorted(found.cures, key=lambda cure: not cure.for_these):
        wanted = f" [cures {', '.join(row.for_these)}]" if row.for_these else ""
        yield f"{row.name} ({row.releases}){wanted}: {row.why}"
    if not found.cures:
        yield "none"


def _section(title: str, lines: Iterable[str], console: Console) -> None:
    _line(f"\n{title}", console, "bold")
    for said in lines:
        _line(f"  {said}", console)


def _line(text: str, console: Console, style: str = "") -> None:
    if text.startswith("\n"):
        console.print()
    line(Text(plain(text.removeprefix("\n")), style=style), console)
