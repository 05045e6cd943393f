"""A server that is not installed here as text: the verdict first, then hazards, bugs and cures."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from g4diag.model.release_check import ASSUMED, ReleaseCheck
from g4diag.report.hazard_text import (
    backend_lines,
    bug_lines,
    hazard_lines,
    open_lines,
    open_named,
    possible_lines,
    possible_named,
    to_give,
)
from g4diag.report.lines import section, told

_STYLE = {0: "bold green", 1: "bold red", 4: "bold yellow"}
_ASSUMED = f"{ASSUMED}: the log names none"


def render(found: ReleaseCheck, console: Console) -> None:
    """Print the whole report to `console`."""
    told(_verdict(found), console, _STYLE[found.exit_code])
    if found.log_issue:
        told(f"  {found.log_issue}", console, "bold")
    gpu = f"{found.gpu or 'GPU not known'} ({found.gpu_is})"
    flags = f"{len(found.flags)} flag{'' if len(found.flags) == 1 else 's'}"
    told(f"  judged: release {found.release} ({found.release_is}), {gpu}, {flags}", console)
    if give := _to_give(found):
        told(f"  to judge the rest, give {'; '.join(give)}", console)
    told("  NOTHING WAS LOOKED AT of the sglang, patches or plugin on this machine: this is what is on file", console)
    section(
        "known-bad combinations",
        [
            *(said for row in found.hazards for said in hazard_lines(row)),
            *possible_lines(found.possible),
            *open_lines(found.open),
        ]
        or ["none found"],
        console,
    )
    for title, met in (("these flags meet", True), ("these flags do not rule out", False)):
        lines = [said for row in found.bugs if row.met is met for said in bug_lines(row)]
        section(f"known bugs alive in {found.release} that {title}", lines or ["none"], console)
    section("other known bugs", _others(found), console)
    section(f"attention backends of Gemma-4 in {found.release}", backend_lines(found.backends), console)
    section(f"patches that would apply to {found.release}, by stated range", _cures(found), console)
    section("not told", found.remarks, console)


def _verdict(found: ReleaseCheck) -> str:
    # What the answer hangs on stands in its first line.
    release = f"{found.release} ({_ASSUMED})" if found.is_assumed else found.release
    bugs = f"{len(found.met)} known bug{'' if len(found.met) == 1 else 's'} of it met"
    if found.hazards:
        hazards = f"{len(found.hazards)} hazard{'' if len(found.hazards) == 1 else 's'}"
        return f"KNOWN BAD: g4diag: sglang {release} with these flags: {hazards}, {bugs}"
    untold = [possible_named(found.possible)] if found.possible else []
    untold += [open_named(found.open)] if found.open else []
    if found.met and not found.is_assumed:
        named = ", ".join(row.name for row in found.met)
        return f"KNOWN BUG MET: g4diag: sglang {release} with these flags: {'; '.join([named, *untold])}"
    if found.exit_code:
        untold += [f"if it is {found.release}, {bugs}"] if found.met else []
        return f"INCONCLUSIVE: g4diag: sglang {release}: {'; '.join(untold) or 'nothing known of it to be bad'}"
    return f"NO HAZARD ON FILE: g4diag: sglang {release} with these flags: {_left(found)}"


def _left(found: ReleaseCheck) -> str:
    """What the flags neither meet nor rule out: it stands below."""
    left = len(found.bugs) - len(found.met)
    return f"no known bug of it met, {left} not ruled out" if left else "no known bug of it met"


def _to_give(found: ReleaseCheck) -> list[str]:
    return [*(["--sglang-version RELEASE"] if found.is_assumed else []), *to_give(found.open)]


def _others(found: ReleaseCheck) -> Iterator[str]:
    yield f"alive there, and these flags rule them out: {', '.join(found.ruled_out) or 'none'}"
    yield f"not known of {found.release}: {', '.join(found.unknown) or 'none'}"


def _cures(found: ReleaseCheck) -> Iterator[str]:
    for row in sorted(found.cures, key=lambda cure: not cure.for_these):
        wanted = f" [cures {', '.join(row.for_these)}]" if row.for_these else ""
        yield f"{row.name} ({row.releases}){wanted}: {row.why}"
    if not found.cures:
        yield "none"
