"""What `doctor --sglang-version` finds about a server that is not installed here, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from g4diag.model.doctor import BackendRow, BugRow, HazardRow, OpenHazard

ASSUMED = "ASSUMED"


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
    say. open: hazards that could not be judged. log_issue: how the issue that the log's crash matches stands in this
    release, "" where there is none."""

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
    open: tuple[OpenHazard, ...] = ()
    log_issue: str = ""

    @property
    def is_assumed(self) -> bool:
        """Whether nobody named the release."""
        return self.release_is.startswith(ASSUMED)

    @property
    def met(self) -> tuple[BugRow, ...]:
        """The known bugs that these flags meet."""
        return tuple(row for row in self.bugs if row.met)

    @property
    def exit_code(self) -> int:
        """1 a hazard, or a known bug that these flags meet; 4 where hazards are not judged, hold if models are what
        their names say, or the release is assumed; 0 none. As `doctor` judges the same command line where the release
        is installed."""
        if self.hazards or (self.met and not self.is_assumed):
            return 1
        return 4 if self.is_assumed or self.possible or self.open else 0
