"""The known issues, as data: known_issues.toml and its reader."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

Asked = Mapping[str, frozenset[str]]
_SURE = ("ran", "read", "thread", "title")
_CONDITIONS = ("needs", "facts", "tells", "unless", "flags")


@dataclass(frozen=True)
class Form:
    """One way in which an issue shows. The head of the data file says what the fields mean."""

    signatures: tuple[str, ...] = ()
    says: tuple[re.Pattern[str], ...] = ()
    needs: Asked = field(default_factory=dict)
    facts: Asked = field(default_factory=dict)
    tells: Asked = field(default_factory=dict)
    unless: Asked = field(default_factory=dict)


@dataclass(frozen=True)
class KnownIssue:
    """One entry of the data file; its head says what the fields mean."""

    id: str
    title: str
    symptom: str
    references: tuple[str, ...]
    affected: str
    cure: str
    sure: str
    next: str
    flags: Asked = field(default_factory=dict)
    cure_in: tuple[tuple[SpecifierSet, str], ...] = ()
    forms: tuple[Form, ...] = ()

    def cure_for(self, release: str) -> str:
        """What that release can take; without one, or for one that is not told apart, `cure`."""
        try:
            version = Version(Version(release).public)
        except InvalidVersion:
            return self.cure
        told = (text for releases, text in self.cure_in if releases.contains(version, prereleases=True))
        return next(told, self.cure)

    def __post_init__(self) -> None:
        if self.sure not in _SURE:
            raise ValueError(f"{self.id}: sure: wanted one of {', '.join(_SURE)}, found {self.sure!r}")


@functools.cache
def known_issues() -> tuple[KnownIssue, ...]:
    """The entries of the data file, in its order. Raises where an entry is malformed: it is ours."""
    text = resources.files("g4diag.analyzers").joinpath("known_issues.toml").read_text(encoding="utf-8")
    return tuple(map(_entry, tomllib.loads(text)["issue"]))


def _entry(row: dict[str, Any]) -> KnownIssue:
    forms = tuple(map(_form, row.pop("form", ())))
    cures = tuple((SpecifierSet(each["releases"]), str(each["cure"])) for each in row.pop("cure_in", ()))
    return KnownIssue(**_plain(row), cure_in=cures, forms=forms)


def _form(row: dict[str, Any]) -> Form:
    return Form(**_plain(row) | {"says": tuple(map(re.compile, row.get("says", ())))})


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    asked = {name: {key: frozenset(row[name][key]) for key in row[name]} for name in _CONDITIONS if name in row}
    return plain | asked
