"""A checkup as text: healthy, or what is wrong and the way out; machine and versions; long tables on request."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from g4diag.model.doctor import THE_GPU, Checkup
from g4diag.report.hazard_text import (
    GIVE,
    backend_lines,
    bug_lines,
    hazard_lines,
    open_lines,
    open_named,
    possible_lines,
    possible_named,
    to_give,
)
from g4diag.report.lines import heading, line, section, told
from g4diag.report.patches_text import render as render_patches

_STYLE = {0: "bold green", 1: "bold red", 3: "bold yellow", 4: "bold yellow"}
_CONFINED = "no network, no writing, no new process (Landlock and seccomp are in this kernel)"
_CUDA = {"driver": "driver", "torch": "installed torch"}
_HERE = "g4diag doctor -- SGLANG-ARGUMENTS"
_ELSEWHERE = "g4diag doctor --sglang-version RELEASE -- SGLANG-ARGUMENTS, or g4diag doctor LOG"
_GIVE = {
    **GIVE,
    THE_GPU: "the server's GPU: run doctor there, or name it by --sglang-version RELEASE --gpu sm90",
}


def render(checkup: Checkup, console: Console, verbose: bool = False) -> None:
    """Print the report to `console`. verbose: backends, patches and traps too, a line or more each."""
    told(_verdict(checkup), console, _STYLE[checkup.exit_code])
    for problem in checkup.problems:
        told(f"  {problem}", console, "red")
    if to_do := _to_do(checkup):
        told(f"  {to_do}", console)
    heading("known-bad combinations", console)
    _hazards(checkup, console)
    if checkup.bugs:
        title = f"known bugs alive in {checkup.versions['sglang']} that these flags meet"
        section(title, (said for row in checkup.bugs for said in bug_lines(row)), console)
    section("machine", _machine(checkup), console)
    section("versions", (f"{name} {version or 'none'}" for name, version in checkup.versions.items()), console)
    section("plugin", _plugin(checkup), console)
    if not verbose:
        line(Text("-v shows the long tables too: attention backends, patches, traps", "dim"), console)
        return
    section("attention backends of Gemma-4 here", backend_lines(checkup.backends), console)
    heading("patches", console)
    render_patches(checkup.patches, console)
    section("traps", (f"{row.name}: {row.claim or row.error}" for row in checkup.traps), console)


def _verdict(checkup: Checkup) -> str:
    if checkup.cannot_run:
        return f"CANNOT RUN: g4diag: {checkup.cannot_run}"
    if checkup.problems:
        return f"UNHEALTHY: g4diag: {len(checkup.problems)} problem{'s' if len(checkup.problems) > 1 else ''}"
    if not checkup.judged:
        found = f"sglang {checkup.versions['sglang']} and the plugin"
        return f"HEALTHY: g4diag: the installation, {found}; no server's flags were judged"
    untold = [possible_named(checkup.possible)] if checkup.possible else []
    untold += [open_named(checkup.open)] if checkup.open else []
    if untold:
        return f"INCONCLUSIVE: g4diag: {'; '.join(untold)}"
    if checkup.remarks:
        return f"HEALTHY AS FAR AS JUDGED: g4diag: nothing known to be bad; {'; '.join(checkup.remarks)}"
    return "HEALTHY: g4diag: nothing known to be bad"


def _to_do(checkup: Checkup) -> str:
    """How to have judged what was not."""
    if checkup.cannot_run:
        return f"to judge a server's flags without it: {_ELSEWHERE}"
    if not checkup.judged:
        return f"to judge them: {_HERE}, or g4diag doctor LOG"
    give = to_give(checkup.open, _GIVE)
    return f"to judge the rest, give {'; '.join(give)}" if give else ""


def _machine(checkup: Checkup) -> Iterable[str]:
    yield from (f"GPU {gpu.name} {gpu.arch or 'arch not known'}, driver {gpu.driver}" for gpu in checkup.gpus)
    if not checkup.gpus:
        yield "no GPU seen (nvidia-smi lists none)"
    yield ", ".join(f"CUDA of the {_CUDA[name]}: {version or 'not known'}" for name, version in checkup.cuda.items())
    missing = "; ".join(checkup.sandbox)
    yield f"the process that reads evidence: {f'NOT CONFINED BY {missing}' if missing else _CONFINED}"


def _plugin(checkup: Checkup) -> Iterable[str]:
    if not checkup.plugin.loads:
        yield f"NOT LOADED: {checkup.plugin.why}"
    elif checkup.versions["sglang"]:
        yield "sglang loads it"
    else:
        yield "no sglang is here to load it"
    if checkup.plugin.others:
        yield f"beside it: {', '.join(checkup.plugin.others)}"
    for kind, names in checkup.armed.items():
        yield f"{kind} this environment arms: {', '.join(names) or 'none'}"


def _hazards(checkup: Checkup, console: Console) -> None:
    for row in checkup.hazards:
        for said in hazard_lines(row):
            told(f"  {said}", console, "" if row.cured_by else "red")
    for said in possible_lines(checkup.possible):
        told(f"  {said}", console, "yellow")
    for said in open_lines(checkup.open):
        told(f"  {said}", console, "yellow")
    if not checkup.hazards and not checkup.possible and not checkup.open:
        told(f"  {_none_found(checkup)}", console)
    for remark in checkup.remarks:
        told(f"  {remark}", console, "dim")


def _none_found(checkup: Checkup) -> str:
    """No more than the verdict above it says."""
    if not checkup.judged:
        return "not judged: no sglang arguments after --"
    if checkup.cannot_run:
        return "not judged: no sglang that is known here is installed"
    if checkup.flags.problems:
        return "none found in what sglang's parser takes; what it does not take ends the server, see the top"
    return "none found as far as judged" if checkup.remarks else "none found"
