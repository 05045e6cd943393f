"""How a scenario's bug stands in the installed release, told by running it. Plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

Standing = Literal["alive", "cured", "not there yet", "cannot run"]
PATHS = ("eager", "graph")
Line = tuple[str, str]  # dotted target, fragment that is in one line of it and in no other


@dataclass(frozen=True)
class Where:
    """An outcome that a state has where all of these lines are in the source, and none of `without`. path: "eager" or
    "graph" of a state that is run on both; "" for any."""

    lines: tuple[Line, ...]
    outcome: str
    path: str = ""
    without: tuple[Line, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A state that does not apply to the installed release. why: what it needs of it, wanted and found."""

    state: str
    why: str


@dataclass(frozen=True)
class Cell:
    """One scenario on one release. alive: as released, its damage was done. cured: the same was run and did none. not
    there yet: it did none, and by its source it is older than the code that the bug came with. cannot run: for want of
    a GPU, of this sglang, or of a driver that fits it. why: one line."""

    standing: Standing
    why: str


class Ran(Protocol):
    """What a reading says of itself. as_released: nothing put back, no cure. harmless: no damage and no trap."""

    @property
    def twin(self) -> bool: ...
    @property
    def as_released(self) -> bool: ...
    @property
    def as_expected(self) -> bool: ...
    @property
    def harmless(self) -> bool: ...
    @property
    def error(self) -> str: ...
    @property
    def told(self) -> str: ...


def cell_of(readings: Iterable[Ran], too_early: str) -> Cell | None:
    """From the readings of the release as it is, the twin's left out; None if there are none. too_early: what says that
    it is older than the code that the bug came with. An exception that nobody expects says nothing of the bug."""
    released = [reading for reading in readings if reading.as_released and not reading.twin]
    bad = [reading for reading in released if not reading.harmless]
    if shown := [reading for reading in bad if reading.as_expected or not reading.error]:
        return Cell("alive", shown[0].told)
    if bad:
        return Cell("cannot run", bad[0].told)
    if not released:
        return None
    told = released[0].told
    return Cell("not there yet", f"{told}; {too_early}") if too_early else Cell("cured", told)
