"""A server that is not installed here, judged by its release and its flags: hazards, known bugs, cures.

Nothing of this machine's stack is looked at, and none is needed. What can be told of it here is its GPU, unless another
is named, and the models' config.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from g4diag.doctor.backends import attention_backends
from g4diag.doctor.examine import unknown
from g4diag.doctor.known_bugs import alive_in, bug_row
from g4diag.errors import CannotRunError, UsageError
from g4diag.hazards.command_line import model_config, parse
from g4diag.hazards.deployment import Deployment
from g4diag.hazards.judging import judge, possible
from g4diag.hazards.untold import open_hazards
from g4diag.matrix.cells import Cell, known_release, matrix
from g4diag.model.doctor import HazardRow
from g4diag.model.release_check import CureRow, ReleaseCheck
from g4diag.patches.applying import patches
from g4diag.servers import hardware

_GPU = re.compile(r"sm(\d{1,2})(\d)")
_STANDS = {"alive": "alive in", "cured": "cured in", "not there yet": "not there yet in"}


def check_release(version: str, arguments: Sequence[str], gpu: str = "", of_log: str = "") -> ReleaseCheck:
    """version: as 0.5.16. arguments: sglang's. gpu: as sm90; "": this machine's, where it has one. of_log: the server
    is a log's, and runs elsewhere: how its release is known.

    Raises UsageError for a version or GPU that is none and where arguments are missing, and CannotRunError for a
    release that is not known here.
    """
    release = _release(version)
    if not arguments:
        raise UsageError("--sglang-version judges a command line: wanted sglang's arguments after --, found none")
    capability, gpu_is = _capability(gpu, is_here=not of_log)
    flags = parse(arguments)
    deployment = Deployment(
        sglang=release,
        flags=flags,
        target=model_config(flags.get("model-path")),
        draft=model_config(flags.get("speculative-draft-model-path")),
        capability=capability,
    )
    hazards = judge(deployment)
    alive = alive_in(release)
    judged = {issue.id: row for issue, cell in alive if (row := bug_row(issue, cell, deployment))}
    by_name = possible(deployment)
    dark = [name for name in matrix().bugs if _is_dark(matrix().cell(name, release))]
    return ReleaseCheck(
        release=release,
        release_is=of_log or "as named",
        gpu="sm{}{}".format(*capability) if capability else "",
        gpu_is=gpu_is,
        flags=flags,
        backends=attention_backends(release, capability),
        hazards=hazards,
        bugs=tuple(sorted(judged.values(), key=lambda row: not row.met)),
        ruled_out=tuple(issue.id for issue, _ in alive if issue.id not in judged),
        unknown=tuple(dark),
        cures=tuple(_cures(release, hazards)),
        remarks=tuple(_remarks(release, deployment)),
        possible=by_name,
        open=open_hazards(deployment, [row.name for row in (*hazards, *by_name)]),
    )


def log_issue(issue: str, is_matched: bool, release: str) -> str:
    """How the known issue of a log stands in a release; "" without one."""
    if not issue:
        return ""
    cell = matrix().cell(issue, _release(release)) if issue in matrix().bugs else None
    how = "matches" if is_matched else "may show"
    return f"{issue}, which this log {how}: {_STANDS.get(cell.standing if cell else '', 'not known of')} {release}"


def _release(version: str) -> str:
    known = matrix()
    try:
        return known_release(version, known)
    except KeyError as error:
        wanted = ", ".join(known.releases)
        raise CannotRunError(f"sglang: wanted a release that is known here, {wanted}; found {error.args[0]}") from None


def _capability(gpu: str, is_here: bool) -> tuple[tuple[int, int] | None, str]:
    if not gpu and not is_here:
        return None, "the log names none; --gpu sm90 does"
    if not gpu:
        found = hardware.capability_of(hardware.gpus())
        return found, "this machine's; --gpu names another" if found else "none named (--gpu sm90) and none seen here"
    named = _GPU.fullmatch(gpu.lower())
    if named is None:
        raise UsageError(f"--gpu: wanted one such as sm90, sm100 or sm120, found {gpu!r}")
    return (int(named[1]), int(named[2])), "as named" if is_here else "as the log or --gpu names it"


def _is_dark(cell: Cell | None) -> bool:
    return cell is None or cell.standing in ("unknown", "cannot run")


def _cures(release: str, hazards: Sequence[HazardRow]) -> Iterator[CureRow]:
    """Cures whose stated range has the release; a test holds the ranges against every known wheel."""
    at = Deployment(sglang=release)
    for name, patch in patches().items():
        if patch.kind == "cure" and not (patch.recorded or patch.partial) and at.is_in(patch.releases):
            found = tuple(row.name for row in hazards if name in row.cures)
            yield CureRow(name, patch.why, patch.releases, found)


def _remarks(release: str, deployment: Deployment) -> Iterator[str]:
    yield from unknown(deployment)
    yield (
        f"flags were not checked by sglang {release}'s own parser, which is not asked; write them in full, as an"
        " abbreviated one is not seen"
    )
