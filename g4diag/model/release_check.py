"""What `doctor --sglang-version` finds about a server that is not installed here, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from g4diag.model.doctor import BackendRow, HazardRow


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
class CureRow:
    """A patch of ours that the release wants, by its stated range. for_these: hazards of this command line it cures."""

    name: str
    why: str
    releases: str
    for_these: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReleaseCheck:
    """All of it. release_is: where the release comes from. gpu: "sm90", "" where none is known; gpu_is: as that.
    hazards: of this command line. bugs: alive in the release and not ruled out by the flags, those that are met
    first. ruled_out: names of those that are. unknown: names of bugs that nobody looked for in the release, or
    could judge there. remarks: what could not be told. possible: hazards besides, if models are what their names
    say."""

    release: str
    release_is: str
    gpu: str
    gpu_is: str
    flags: dict[str, str]
    backends: tuple[BackendRow, ...]
    hazards: tuple[HazardRow, ...]
    bugs: tuple[BugRow, ...]
    ruled_out: tuple[str, ...]
    unknown: tuple[str, ...]
    cures: tuple[CureRow, ...]
    remarks: tuple[str, ...] = ()
    possible: tuple[HazardRow, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 a hazard, 4 one if models are what their names say, 0 none: as `doctor` judges the same command line where
        the release is installed."""
        return 1 if self.hazards else 4 if self.possible else 0
