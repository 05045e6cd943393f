"""The exception tree. A CLI error is one line for a person and an exit code for a script.

Exit codes, the same for every command:
0 clean or as expected, 1 defect found or not as expected, 2 usage, 3 cannot run here,
4 vacuous or inconclusive, 5 unsafe or corrupt input.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

# g4diag is on no package index: both work in a checkout.
GET_THE_STACK = "in a checkout of g4diag: pip install '.[stack]'"
GET_FUZZ = "in a checkout of g4diag: pip install '.[fuzz]'"


class G4DiagError(Exception):
    """Base of all errors of ours. `exit_code` is what the CLI leaves with."""

    exit_code: ClassVar[int] = 1


class UsageError(G4DiagError):
    """The request itself is wrong: an unknown name, an impossible geometry, a bad G4DIAG_* value."""

    exit_code = 2


def unknown(noun: str, name: str, known: Iterable[str]) -> UsageError:
    """What to raise for a name that there is not: the nearest that there is, what was found, and what was wanted."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    wanted = f"wanted one of {', '.join(names)}"
    if near:  # in front: the list may be long
        return UsageError(f"unknown {noun}: found {name!r}; did you mean {near[0]}? {wanted}")
    return UsageError(f"unknown {noun}: {wanted}, found {name!r}")


def unwritable(path: Path, error: OSError | ValueError) -> UsageError:
    """What to raise where the disk refuses `path`, or where no file can have that name."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return UsageError(f"{path}: cannot be written: {reason}")


class CannotRunError(G4DiagError):
    """This machine lacks what the command needs: sglang, its version, a GPU."""

    exit_code = 3


class TooEarlyError(CannotRunError):
    """A scenario cannot be driven here, and the installed release is older than the code that its bug came with."""


class VacuousError(G4DiagError):
    """Nothing was exercised, so nothing can be concluded."""

    exit_code = 4


class TrapTripped(G4DiagError):
    """A trap fired in a live server under `strict`, or on a target's read under `contain`. Meant to reach the server:
    the one error of ours that does."""


class UnsafeInputError(G4DiagError):
    """The input is corrupt, truncated, not ours, or would need unpickling."""

    exit_code = 5


class PatchRefused(G4DiagError):
    """A patch or hook did not fit what is installed. Says what was wanted and what was found."""

    exit_code = 3

    def __init__(self, name: str, wanted: str, found: str) -> None:
        super().__init__(f"{name}: wanted {wanted}, found {found}")
        self.name, self.wanted, self.found = name, wanted, found
