"""What `g4diag serve` will start: the environment that arms every process, and what it refuses to start at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from g4diag.doctor.examine import checked_flags, explicit_flags, judged
from g4diag.doctor.plugin_state import VARIABLE, including_us, plugin_state
from g4diag.doctor.series import patch_rows
from g4diag.errors import GET_THE_STACK, CannotRunError, PatchRefused, UsageError
from g4diag.errors import unknown as unknown_name
from g4diag.hazards.judging import hazards as known_hazards
from g4diag.hooks.versions import version_of
from g4diag.model.doctor import HazardRow
from g4diag.patches import applying
from g4diag.patches.contract import fit
from g4diag.servers import coredump, hardware
from g4diag.settings import Selection, Settings, dump_dir, require_writable
from g4diag.stack.live import selection


@dataclass(frozen=True)
class Asked:
    """A `g4diag serve` command line. arguments: sglang's. patches, traps: None = as the environment says.
    despite: hazards to start in spite of. coredump: one of the GPU shall be left of an exception.
    require: traps without which not to start."""

    arguments: tuple[str, ...]
    patches: str | None = None
    traps: str | None = None
    dump_dir: Path | None = None
    despite: tuple[str, ...] = ()
    coredump: bool = False
    require: str | None = None


@dataclass(frozen=True)
class Plan:
    """Fit to start. environ: the server's, run directory aside. hazards: those it holds that do not forbid it."""

    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    patches: tuple[str, ...]
    traps: tuple[str, ...]
    faults: tuple[str, ...]
    hazards: tuple[HazardRow, ...]
    remarks: tuple[str, ...]
    recorder: bool = False
    coredump: bool = False

    @property
    def watches(self) -> bool:
        """Whether anything is on that tells of a death; a log is then kept."""
        return bool(self.traps or self.recorder or self.coredump)

    @property
    def serves_metrics(self) -> bool:
        """Whether what the traps do is on sglang's own /metrics."""
        settings = Settings.from_env(self.environ)
        return bool(self.traps) and settings.metrics and "enable-metrics" in (settings.explicit_flags or ())

    @property
    def arms(self) -> bool:
        """Whether anything is to be armed."""
        return bool(self.patches or self.traps or self.recorder)


def plan(asked: Asked, environ: Mapping[str, str] = os.environ) -> Plan:
    """UsageError for an unknown name, a dump directory that cannot be written, or a combination known to fail;
    CannotRunError or PatchRefused for a stack that what was asked does not fit. Each in one line, and nothing heavy
    imported."""
    if not asked.arguments:
        raise UsageError("wanted sglang's arguments after --, found none")
    armed_environ = _environ(asked, environ)
    settings = Settings.from_env(armed_environ)
    traps = selection.selected_traps(settings.traps)
    _require_among(settings.require, traps)
    if version_of("sglang") is None:
        applying.selected_patches(settings.patches)
        raise CannotRunError(f"sglang: wanted one to serve with, found none; {GET_THE_STACK}")
    patches, left_out = _patches(settings.patches)
    flags = checked_flags(asked.arguments, armed_environ)
    if flags.problems:
        raise UsageError(f"not started: {'; '.join(flags.problems)}")
    hazards, unknown = judged(asked.arguments, armed_environ, patches, hardware.capability_of(hardware.gpus()))
    _refuse(hazards, asked.despite)
    recorder = _recorder(armed_environ, bool(traps))
    if traps or recorder or asked.coredump or settings.dump_dir:
        require_writable(dump_dir(environ=armed_environ))
    if (patches or traps or recorder) and not (state := plugin_state(armed_environ)).loads:
        raise CannotRunError(f"the plugin would not be loaded: {state.why}")
    faults = tuple(name for name in patches if applying.patches()[name].kind == "fault")
    remarks = (*left_out, *flags.remarks, *unknown)
    return Plan(
        asked.arguments, armed_environ, patches, traps, faults, hazards, remarks, recorder, coredump=asked.coredump
    )


def _require_among(required: Selection, traps: Sequence[str]) -> None:
    names = selection.selected_traps(required)
    if required and not traps:
        raise UsageError("--require: wanted traps to arm, found none; see --traps")
    if not required.everything and (others := [name for name in names if name not in traps]):
        raise UsageError(f"--require: wanted one of the traps to arm, {', '.join(traps)}, found {others[0]}")


def with_run_dir(plan: Plan, folder: Path) -> Plan:
    """`plan` with its processes told to leave their records in `folder`."""
    return replace(plan, environ=dict(plan.environ) | {"G4DIAG_RUN_DIR": str(folder)})


def _environ(asked: Asked, environ: Mapping[str, str]) -> dict[str, str]:
    given = {
        "G4DIAG_PATCHES": asked.patches,
        "G4DIAG_TRAPS": asked.traps,
        "G4DIAG_REQUIRE": asked.require,
        "G4DIAG_DUMP_DIR": None if asked.dump_dir is None else str(asked.dump_dir.absolute()),
        "G4DIAG_EXPLICIT_FLAGS": ",".join(explicit_flags(asked.arguments)),
        VARIABLE: including_us(environ),
    }
    made = dict(environ) | {name: value for name, value in given.items() if value is not None}
    if asked.coredump:
        made |= coredump.environment(dump_dir(environ=made))
    return made


def _recorder(environ: dict[str, str], traps: bool) -> bool:
    """Whether the flight recorder is on; with traps it is, unless the environment says otherwise."""
    environ.setdefault("G4DIAG_RECORDER", "on" if traps else "off")
    return Settings.from_env(environ).recorder


def _patches(selection: Selection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names to apply, what `all` leaves out although it is wanted here)."""
    names = applying.selected_patches(selection)
    known = applying.patches()
    for name in names:
        status = fit(known[name])
        if not status.can_apply:
            raise PatchRefused(name, status.wanted, status.found)
    if not selection.everything:
        return names, ()
    rows = patch_rows()
    if broken := [row for row in rows if row.state == "broken"]:
        raise CannotRunError(f"all: the patch file {broken[0].name} does not load: {broken[0].found}")
    refused = [row for row in rows if row.state == "refused" and row.kind == "cure"]
    return names, tuple(f"patch {row.name} left out of all: wanted {row.wanted}, found {row.found}" for row in refused)


def _refuse(hazards: Sequence[HazardRow], despite: Sequence[str]) -> None:
    known = known_hazards()
    if unknown := [name for name in despite if name not in known]:
        raise unknown_name("hazard of --despite", unknown[0], known)
    for row in hazards:
        if row.fatal and row.name not in despite:
            ways = [*row.ways, f"--despite {row.name}"]
            raise UsageError(f"{row.name}: {row.found}: {row.why} Instead: {', or '.join(ways)}")
