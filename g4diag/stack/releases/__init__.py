"""Which release is installed: known by its structure, not by its version string, so that a source build, a fork or a
backport is taken for what it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from g4diag.discover import contributions
from g4diag.errors import GET_THE_STACK, CannotRunError
from g4diag.hooks import versions
from g4diag.hooks.anchors import pin
from g4diag.stack.releases.contract import Release

__all__ = ["Chosen", "Release", "chosen", "current", "known", "require"]

PACKAGE, CONSTANT = "g4diag.stack.releases", "RELEASE"


@dataclass(frozen=True)
class Chosen:
    """The release file that fits best. matched: anchors of it that hold, of `of`. meant: it was written for the version
    that is installed. version: that one."""

    release: Release
    matched: int
    of: int
    meant: bool
    version: str

    @property
    def exact(self) -> bool:
        """All of its anchors hold."""
        return self.matched == self.of

    @property
    def told(self) -> str:
        """For people: what is installed and what it is taken for."""
        if self.exact and self.meant:
            return f"sglang {self.version}"
        by = "all" if self.exact else f"{self.matched} of {self.of}"
        return f"sglang {self.version}, by its structure like {self.release.name} ({by} anchors hold)"


def known() -> dict[str, Release]:
    """Every release file that imports, by name."""
    rows = contributions(PACKAGE, CONSTANT)
    return {row.value.name: row.value for row in rows if isinstance(row.value, Release)}


def driven() -> list[str]:
    """Names of those whose classes can be driven on a CPU."""
    return [name for name, release in known().items() if not release.undriven]


def chosen() -> Chosen | None:
    """The file whose anchors hold best; None without sglang, or if none of any file's holds. Text alone is read."""
    version = versions.version_of("sglang")
    if version is None:
        return None
    found = [
        Chosen(release, sum(pin(anchor).matched for anchor in release.known_by), len(release.known_by), False, version)
        for release in known().values()
    ]
    fits = [Chosen(c.release, c.matched, c.of, c.release.means(version), version) for c in found if c.matched]
    return max(fits, key=lambda c: (c.matched / c.of, c.meant), default=None)


@cache
def current() -> Release:
    """The release that is installed. CannotRunError in one line: no sglang, or none like any that is known."""
    return _found().release


def require() -> Release:
    """The installed release, fit to be driven: all of its file's anchors hold, and there is a driver for it.
    CannotRunError in one line otherwise."""
    found = _found()
    if not found.exact:
        lacking = next(anchor for anchor in found.release.known_by if not pin(anchor).matched)
        lacks = f"which lacks {lacking.text!r} in {lacking.target}"
        raise CannotRunError(f"sglang: wanted {' or '.join(driven())}, found {found.version}, {lacks}")
    if why := found.release.undriven:
        raise CannotRunError(f"sglang: wanted {' or '.join(driven())}, found {found.version}, known in part: {why}")
    return found.release


def _found() -> Chosen:
    if (found := chosen()) is not None:
        return found
    version, names = versions.version_of("sglang"), list(known())
    wanted = f"{names[0]} to {names[-1]}"
    if version is None:
        raise CannotRunError(f"sglang: wanted {wanted}, found none; {GET_THE_STACK}")
    raise CannotRunError(f"sglang: wanted one built like those of {wanted}, found {version}")
