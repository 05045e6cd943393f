"""The whole of `doctor`: what is installed, what the machine has, what would be armed, what is known to go wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from g4diag.doctor import flag_check
from g4diag.doctor.backends import attention_backends, unwatched
from g4diag.doctor.known_bugs import met_here
from g4diag.doctor.plugin_state import plugin_state
from g4diag.doctor.series import patch_rows, trap_rows
from g4diag.errors import CannotRunError
from g4diag.hazards.command_line import model_config, parse
from g4diag.hazards.deployment import Deployment
from g4diag.hazards.judging import judge, possible
from g4diag.hazards.untold import open_hazards
from g4diag.hooks.versions import installed, version_of
from g4diag.model.doctor import Checkup, FlagCheck, HazardRow
from g4diag.patches import applying
from g4diag.sandbox import confine
from g4diag.servers import hardware
from g4diag.settings import Settings
from g4diag.stack import releases
from g4diag.stack.live import selection


def examine(arguments: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> Checkup:
    """Look at everything; imports nothing heavy, and starts nothing but nvidia-smi and, given arguments, sglang's
    parser. arguments: sglang's, to judge."""
    gpus = hardware.gpus()
    capability = hardware.capability_of(gpus)
    settings = Settings.from_env(environ)
    patches, traps = applying.selected_patches(settings.patches), selection.selected_traps(settings.traps)
    deployment = deployment_of(arguments, environ, capability) if arguments else None
    hazards, remarks = _judged(deployment, patches)
    by_name = possible(deployment, patches) if deployment else ()
    flags = checked_flags(arguments, environ, values=True)
    return Checkup(
        versions=installed(),
        gpus=gpus,
        cuda=hardware.cuda_versions(),
        backends=attention_backends(release, capability) if (release := version_of("sglang")) else (),
        plugin=plugin_state(environ),
        patches=patch_rows(),
        traps=trap_rows(),
        hazards=hazards,
        armed={"patches": list(patches), "traps": list(traps)},
        cannot_run=_cannot_run(),
        judged=bool(arguments),
        remarks=(*flags.remarks, *remarks, *unwatched(explicit_flags(arguments) if arguments else {})),
        possible=by_name,
        open=open_hazards(deployment, [row.name for row in (*hazards, *by_name)], patches) if deployment else (),
        bugs=tuple(met_here(deployment, patches)) if deployment else (),
        flags=flags,
        sandbox=confine.missing(),
    )


def checked_flags(arguments: Sequence[str], environ: Mapping[str, str], *, values: bool = False) -> FlagCheck:
    """sglang's arguments by sglang's own parser. values: see `flag_check.check`."""
    if version_of("sglang") is None:
        return FlagCheck(unchecked="no sglang is installed") if arguments else FlagCheck()
    return flag_check.check(arguments, environ, values=values)


def judged(
    arguments: Sequence[str], environ: Mapping[str, str], patches: Sequence[str], capability: tuple[int, int] | None
) -> tuple[tuple[HazardRow, ...], tuple[str, ...]]:
    """(hazards of this command line, what could not be judged). patches: those that will be on."""
    return _judged(deployment_of(arguments, environ, capability) if arguments else None, patches)


def _judged(deployment: Deployment | None, patches: Sequence[str]) -> tuple[tuple[HazardRow, ...], tuple[str, ...]]:
    return ((), ()) if deployment is None else (judge(deployment, patches), tuple(unknown(deployment)))


def deployment_of(
    arguments: Sequence[str], environ: Mapping[str, str], capability: tuple[int, int] | None
) -> Deployment | None:
    """The server these arguments describe; None without sglang."""
    release = version_of("sglang")
    if release is None:
        return None
    flags = explicit_flags(arguments)
    return Deployment(
        sglang=release,
        flags=flags,
        environ=environ,
        target=model_config(flags.get("model-path"), environ),
        draft=model_config(flags.get("speculative-draft-model-path"), environ),
        capability=capability,
    )


def explicit_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Flags given, by their full names in the installed sglang."""
    return parse(arguments, flag_check.declared_flags())


def unknown(deployment: Deployment) -> list[str]:
    """What could not be told of a server, one line each, and so was not judged."""
    remarks = []
    for flag, config in (("model-path", deployment.target), ("speculative-draft-model-path", deployment.draft)):
        if (path := deployment.flag(flag)) and config is None:
            remarks.append(
                f"--{flag} {path}: no config.json of it on this machine, so checks of this model were not made;"
                " a folder with its config.json makes them"
            )
    if deployment.lacks_draft:
        remarks.append(
            f"--speculative-algorithm {deployment.flag('speculative-algorithm')} without"
            " --speculative-draft-model-path: which draft it is cannot be told, so checks of a draft were not made"
        )
    if deployment.capability is None:
        remarks.append("no GPU seen, so rules about its architecture are silent")
    return remarks


def _cannot_run() -> str:
    try:
        releases.require()
    except CannotRunError as error:
        return str(error)
    return ""
