"""A checkup as text: healthy, or what is wrong and the way out; machine and versions; long tables on request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from g4diag.model.doctor import Checkup, HazardRow
from g4diag.report.lines import line
from g4diag.report.patches_text import render as render_patches
from g4diag.report.plain import plain

_STYLE = {0: "bold green", 1: "bold red", 3: "bold yellow", 4: "bold yellow"}
_CONFINED = "no network, no writing, no new process (Landlock and seccomp are in this kernel)"
_YES = {True: "yes", False: "no", None: "not known"}


def render(checkup: Checkup, console: Console, verbose: bool = False) -> None:
    """Print the report to `console`. verbose: backends, patches and traps too, a line or more each."""
    _line(_verdict(checkup), console, _STYLE[checkup.exit_code])
    for problem in checkup.problems:
        _line(f"  {problem}", console, "red")
    _line("\nknown-bad combinations", console, "bold")
    _hazards(checkup, console)
    _section("machine", _machine(checkup), console)
    _section("versions", (f"{name} {version or 'none'}" for name, version in checkup.versions.items()), console)
    _section("plugin", _plugin(checkup), console)
    if not verbose:
        line(Text("-v shows the long tables too: attention backends, patches, traps", "dim"), console)
        return
    backends = (
        f"{row.name}: prefill {_YES[row.prefill]}, decode {_YES[row.decode]} ({row.why})" for row in checkup.backends
    )
    _section("attention backends of Gemma-4 here", backends, console)
    _line("\npatches", console, "bold")
    render_patches(checkup.patches, console)
    _section("traps", (f"{row.name}: {row.claim or row.error}" for row in checkup.traps), console)


def possible_named(rows: Sequence[HazardRow]) -> str:
    """Hazards that hold if models are what their names say, for a first line."""
    return f"{', '.join(row.name for row in rows)}: known to be bad if the models are what their names say"


def possible_lines(rows: Sequence[HazardRow]) -> Iterator[str]:
    """The same hazards, each told as one that is no more than possible."""
    for row in rows:
        for said in hazard_lines(row):
            yield said if said.startswith(" ") else f"possible: {said}"


def hazard_lines(row: HazardRow) -> list[str]:
    """What was found, why it is bad, and the two ways out."""
    cured = f" [cured by {row.cured_by}]" if row.cured_by else ""
    return [
        f"{row.severity}: {row.name}: {row.found}{cured}",
        f"  {row.why} ({row.reference})",
        f"  {' | '.join(row.ways)}",
    ]


def _verdict(checkup: Checkup) -> str:
    if checkup.cannot_run:
        return f"CANNOT RUN: g4diag: {checkup.cannot_run}"
    if checkup.problems:
        return f"UNHEALTHY: g4diag: {len(checkup.problems)} problem{'s' if len(checkup.problems) > 1 else ''}"
    if checkup.possible:
        said = possible_named(checkup.possible)
        return f"INCONCLUSIVE: g4diag: {said}; {'; '.join(checkup.remarks)}"
    if checkup.remarks:
        return f"HEALTHY AS FAR AS JUDGED: g4diag: nothing known to be bad; {'; '.join(checkup.remarks)}"
    judged = "" if checkup.judged else "; no command line judged (give one after --)"
    return f"HEALTHY: g4diag: nothing known to be bad{judged}"


def _machine(checkup: Checkup) -> Iterable[str]:
    yield from (f"GPU {gpu.name} {gpu.arch or 'arch not known'}, driver {gpu.driver}" for gpu in checkup.gpus)
    if not checkup.gpus:
        yield "no GPU seen (nvidia-smi lists none)"
    yield " ".join(f"CUDA of {name}: {version or 'not known'}" for name, version in checkup.cuda.items())
    missing = "; ".join(checkup.sandbox)
    yield f"the process that reads evidence: {f'NOT CONFINED BY {missing}' if missing else _CONFINED}"


def _plugin(checkup: Checkup) -> Iterable[str]:
    yield "sglang loads it" if checkup.plugin.loads else f"NOT LOADED: {checkup.plugin.why}"
    if checkup.plugin.others:
        yield f"beside it: {', '.join(checkup.plugin.others)}"
    for kind, names in checkup.armed.items():
        yield f"{kind} this environment arms: {', '.join(names) or 'none'}"


def _hazards(checkup: Checkup, console: Console) -> None:
    for row in checkup.hazards:
        for said in hazard_lines(row):
            _line(f"  {said}", console, "" if row.cured_by else "red")
    for said in possible_lines(checkup.possible):
        _line(f"  {said}", console, "yellow")
    if not checkup.hazards and not checkup.possible:
        _line(f"  {_none_found(checkup)}", console)
    for remark in checkup.remarks:
        _line(f"  {remark}", console, "dim")


def _none_found(checkup: Checkup) -> str:
    """No more than the verdict above it says."""
    if not checkup.judged:
        return "not judged: no sglang arguments after --"
    if checkup.flags.problems:
        return "none found in what sglang's parser takes; what it does not take ends the server, see the top"
    return "none found as far as judged" if checkup.remarks else "none found"


def _section(title: str, lines: Iterable[str], console: Console) -> None:
    _line(f"\n{title}", console, "bold")
    for said in lines:
        _line(f"  {said}", console)


def _line(text: str, console: Console, style: str = "") -> None:
    if text.startswith("\n"):
        console.print()
    line(Text(plain(text.removeprefix("\n")), style=style), console)
