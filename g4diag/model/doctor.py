"""What `patches`, `doctor` and `serve` find out about a machine, as plain values that the reports format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """One GPU. capability: "9.0"; "" when the driver did not say."""

    name: str
    capability: str
    driver: str

    @property
    def arch(self) -> str:
        """As `sm90`; "" when unknown."""
        return f"sm{self.capability.replace('.', '')}" if self.capability else ""


@dataclass(frozen=True)
class BackendRow:
    """Whether an attention backend of Gemma-4 can run here. None: cannot be told. why: the rule."""

    name: str
    prefill: bool | None
    decode: bool | None
    why: str


@dataclass(frozen=True)
class PluginState:
    """Whether sglang would load the plugin. loads: it would. why: what hides it, one line, "" when nothing does.
    others: further plugins of the group that load."""

    loads: bool
    why: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatchRow:
    """A patch against the installed stack. state: as `Status`, or `broken` for a file that does not import.
    in_all: `G4DIAG_PATCHES=all` would take it. known_releases: those of `releases` that are known, as they are read."""

    name: str
    kind: str
    state: str
    wanted: str = ""
    found: str = ""
    why: str = ""
    how: str = ""
    upstream: str = ""
    releases: str = ""
    remove_when: str = ""
    needs: tuple[str, ...] = ()
    in_all: bool = False
    partial: bool = False
    known_releases: str = ""


@dataclass(frozen=True)
class TrapRow:
    """A trap that can be armed. error: why its file does not import."""

    name: str
    claim: str
    cost: str
    runs: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True)
class VerifyRow:
    """A patch put on for a moment. changed: targets that were another object while it was on. error: why it is
    not verified, "" when it is. upstream: sglang has this cure, and the patch went on over it, as it does over the
    fault state it is kept for."""

    name: str
    kind: str
    changed: tuple[str, ...] = ()
    error: str = ""
    upstream: bool = False

    @property
    def verified(self) -> bool:
        """It applied, changed its targets, and left nothing behind."""
        return not self.error


@dataclass(frozen=True)
class SkippedRow:
    """A patch that was not put on. why: a few words, the same for all that were left out for the same reason."""

    name: str
    kind: str
    why: str


@dataclass(frozen=True)
class HazardRow:
    """A known-bad combination that a command line, or the stack itself, holds. cured_by: an armed patch that
    cures it, "" if none is. found: what is there. instead: flags or variables that avoid it. ways: cures and instead
    in full, as they are typed."""

    name: str
    severity: str
    found: str
    why: str
    reference: str
    cures: tuple[str, ...] = ()
    cured_by: str = ""
    instead: str = ""
    ways: tuple[str, ...] = ()

    @property
    def fatal(self) -> bool:
        """The server dies of it, and nothing armed cures it."""
        return self.severity == "fatal" and not self.cured_by


MODEL_CONFIG, DRAFT_CONFIG, THE_GPU = "the model's config.json", "the draft's config.json", "the GPU"


@dataclass(frozen=True)
class OpenHazard:
    """A known-bad combination that is neither found nor ruled out. missing: what would tell, of the three above."""

    name: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class BugRow:
    """A bug that is alive in the release. ran: seen by running there, on date; else read in source. why: what was seen.
    met: these flags have all that it needs. missing: what would tell, where they neither meet it nor rule it out."""

    name: str
    title: str
    ran: bool
    date: str
    why: str
    source: str
    cure: str
    references: tuple[str, ...]
    met: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnknownFlag:
    """An argument that sglang's own parser does not know. nearest: the known flag most like it, "" if none is."""

    name: str
    nearest: str = ""

    @property
    def text(self) -> str:
        """What is wrong, and what may have been meant."""
        meant = f"; did you mean {self.nearest}" if self.nearest else ""
        return f"{self.name}: sglang's own parser does not know it, and ends the server{meant}"


@dataclass(frozen=True)
class FlagCheck:
    """sglang's arguments by its own parser. refused: what it says against those it knows. unchecked: why it was not
    asked, or could not answer; "" where nothing was to be asked."""

    unknown: tuple[UnknownFlag, ...] = ()
    refused: str = ""
    unchecked: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """Each is the end of a server, one line each."""
        refused = (f"sglang's own parser refuses the command line: {self.refused}",) if self.refused else ()
        return (*(flag.text for flag in self.unknown), *refused)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What could not be told."""
        return (f"flags were not checked: {self.unchecked}",) if self.unchecked else ()


@dataclass(frozen=True)
class SelftestRow:
    """A trap put to the test on sglang's own classes. how: what was broken. fired: traps that fired when it was.
    companions: other traps that belong to the same break. early: traps that fired before it. checked: views that the
    trap judged, healthy and broken. vacuous: the healthy run had nothing to judge. error: why it could not be put to
    the test, "" if it was."""

    trap: str
    how: str = ""
    fired: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    checked: tuple[int, int] = (0, 0)
    vacuous: bool = False
    seconds: float = 0.0
    error: str = ""

    @property
    def problem(self) -> str:
        """What is wrong, "" when exactly what should have woken did."""
        if self.error:
            return self.error
        if self.early:
            return f"fired on healthy sglang: {', '.join(self.early)}"
        if self.vacuous:
            return "the healthy run had nothing to judge"
        wanted = {self.trap, *self.companions}
        silent, others = sorted(wanted - set(self.fired)), sorted(set(self.fired) - wanted)
        parts = [f"did not fire: {', '.join(silent)}"] * bool(silent)
        parts += [f"fired too: {', '.join(others)}"] * bool(others)
        return "; ".join(parts)


@dataclass(frozen=True)
class Selftest:
    """Every trap put to the test. versions: package -> version."""

    rows: tuple[SelftestRow, ...]
    versions: dict[str, str | None]

    @property
    def exit_code(self) -> int:
        """0 each fired, and alone; 1 one did not, another did, or one could not be put to the test."""
        return 1 if not self.rows or any(row.problem for row in self.rows) else 0


@dataclass(frozen=True)
class Checkup:
    """All that `doctor` finds. cannot_run: why sglang cannot be served here, "" if it can. judged: whether a
    command line was judged. remarks: what could not be told. flags: its flags by sglang's own parser. possible:
    hazards that it has besides if models whose config.json is not here are what their names say. open: hazards that
    could not be judged. bugs: known ones of the installed release that these flags meet and no armed patch cures.
    sandbox: what this kernel lacks to confine the process that reads evidence."""

    versions: dict[str, str | None]
    gpus: tuple[Gpu, ...]
    cuda: dict[str, str | None]
    backends: tuple[BackendRow, ...]
    plugin: PluginState
    patches: tuple[PatchRow, ...]
    traps: tuple[TrapRow, ...]
    hazards: tuple[HazardRow, ...]
    armed: dict[str, Any] = field(default_factory=dict)
    cannot_run: str = ""
    judged: bool = False
    remarks: tuple[str, ...] = ()
    flags: FlagCheck = field(default_factory=FlagCheck)
    possible: tuple[HazardRow, ...] = ()
    open: tuple[OpenHazard, ...] = ()
    bugs: tuple[BugRow, ...] = ()
    sandbox: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What makes it unhealthy, one line each."""
        lines = [*self.flags.problems]
        lines += [] if self.plugin.loads else [f"plugin: {self.plugin.why}"]
        lines += [f"hazard {row.name}: {row.found}" for row in self.hazards if not row.cured_by]
        lines += [f"known bug {row.name}: {row.title}" for row in self.bugs]
        lines += [f"patch {row.name}: {row.found}" for row in self.patches if row.state == "broken"]
        faults = {row.name for row in self.patches if row.kind == "fault"} & set(self.armed.get("patches", ()))
        lines += [f"fault {name}: this environment puts it back on purpose" for name in sorted(faults)]
        return (*lines, *(f"trap {row.name}: {row.error}" for row in self.traps if row.error))

    @property
    def exit_code(self) -> int:
        """3 cannot run here, 1 unhealthy, 4 hazards that are not judged or hold if models are what their names say, 0
        healthy."""
        return 3 if self.cannot_run else 1 if self.problems else 4 if self.possible or self.open else 0
