"""The installed release with some of its places moved, for tests that hook synthetic modules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g4diag.hooks import versions
from g4diag.hooks.anchors import Anchor, pin
from g4diag.stack import releases
from g4diag.stack.releases import current
from g4diag.stack.releases.contract import Point, Release


def moved(**paths: str) -> Release:
    """The installed release with these places elsewhere; `scheduler__run_batch` stands for `scheduler.run_batch`."""
    points = {name.replace("__", "."): Point(path) for name, path in paths.items()}
    return replace(current(), points={**current().points, **points})


def unlike(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """An sglang of that version, None for none, whose source is like no release that is known."""
    monkeypatch.setattr(versions, "version_of", lambda name: version)
    monkeypatch.setattr(releases, "pin", lambda anchor: pin(Anchor("nowhere", "x")))
    monkeypatch.setattr(releases, "current", releases.current.__wrapped__)
