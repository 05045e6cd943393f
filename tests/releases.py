"""The installed release with some of its places moved, for tests that hook synthetic modules."""

from __future__ import annotations

from dataclasses import replace

from g4diag.stack.releases import current
from g4diag.stack.releases.contract import Point, Release


def moved(**paths: str) -> Release:
    """The installed release with these places elsewhere; `scheduler__run_batch` stands for `scheduler.run_batch`."""
    points = {name.replace("__", "."): Point(path) for name, path in paths.items()}
    return replace(current(), points={**current().points, **points})
