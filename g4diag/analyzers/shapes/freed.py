"""What was freed that was not live: the rest of a page, a page a second time, the dummy page."""

from __future__ import annotations

import numpy as np

from g4diag.analyzers.shapes.contract import Shape
from g4diag.model import Incident, Release

_REST, _AGAIN, _DUMMY, _UNKNOWN = "rest of a page", "page again", "dummy page", "never handed out here"


def told(release: Release, incident: Incident) -> str:
    """By the releases before it in the file, of the same pool."""
    size = release.pool.page_size
    pages_N = release.slots_N // size
    bad_N = ~np.isin(pages_N, release.live_pages_N)
    if not bad_N.any():
        return ""
    if (pages_N[bad_N] == 0).all():
        return _DUMMY
    slots = release.slots_N[bad_N]
    freed = [*_before(release, incident)]
    earlier = np.concatenate(freed) if freed else np.zeros(0, np.int64)
    if not np.isin(slots // size, earlier // size).any():
        return _UNKNOWN
    return _AGAIN if np.isin(slots, earlier).any() else _REST


def _before(release: Release, incident: Incident) -> list[np.ndarray]:
    same = [other for other in incident.releases if other.pool.space is release.pool.space]
    at = next((n for n, other in enumerate(same) if other is release), len(same))
    return [other.slots_N for other in same[:at]]


SHAPE = Shape(
    "freed",
    {
        _REST: "other slots of its page were freed before, these were not",
        _AGAIN: "the very slots were freed before",
        _DUMMY: "slots of page 0",
        _UNKNOWN: "no earlier release in the file explains it",
    },
    Release,
    told,
)
