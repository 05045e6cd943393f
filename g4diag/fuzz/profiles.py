"""How much to fuzz, and where finds are kept.

dev: a minute at a desk. ci: the same examples every time, nothing kept. nightly: long, finds kept and tried first.
Examples are kept in a directory, or with G4DIAG_FUZZ_DB=redis://... on a server that many machines share.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from g4diag.errors import CannotRunError, unknown
from g4diag.settings import REDIS, Settings

DEFAULT_PLACE = ".hypothesis/examples"


@dataclass(frozen=True)
class Profile:
    """examples: of each machine, unless a budget is given. keeps: finds go to the database and come back."""

    name: str
    examples: int
    keeps: bool


_PROFILES = {
    profile.name: profile
    for profile in (Profile("dev", 200, True), Profile("ci", 150, False), Profile("nightly", 20_000, True))
}


def profile(name: str) -> Profile:
    """The profile of that name. UsageError if there is none."""
    if name not in _PROFILES:
        raise unknown("profile", name, _PROFILES)
    return _PROFILES[name]


def place(asked: str | None, default: str = DEFAULT_PLACE) -> str:
    """Where finds are kept: as asked, else G4DIAG_FUZZ_DB, else by default Hypothesis's own directory."""
    return asked or Settings.from_env().fuzz_db or default


@dataclass(frozen=True)
class Keep:
    """Where examples are kept. place: a directory, or a redis:// address; "" for nowhere."""

    place: str = ""

    def database(self) -> ExampleDatabase | None:
        """Hypothesis's database there. CannotRunError without the redis package, or with no server there."""
        if not self.place:
            return None
        if not self.place.startswith(REDIS):
            return DirectoryBasedExampleDatabase(self.place)
        return _redis(self.place)


def _redis(url: str) -> ExampleDatabase:
    try:
        server: Any = import_module("redis").Redis.from_url(url, socket_timeout=10)
    except ImportError as error:
        raise CannotRunError("G4DIAG_FUZZ_DB: wanted the package redis for a redis:// address, found none") from error
    from hypothesis.extra.redis import RedisExampleDatabase

    try:
        server.ping()
    except Exception as error:
        raise CannotRunError(f"G4DIAG_FUZZ_DB: wanted a Redis server at {url}, found {error}") from error
    return RedisExampleDatabase(server, key_prefix=b"g4diag-fuzz:")
