"""The table of what every known release's text says of our anchors, as sources that patches can be held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from g4diag.hooks.anchors import Anchor, Pin, State
from g4diag.patches.contract import Source

TABLE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "anchors.json").read_text(encoding="utf-8"))
RELEASES: tuple[str, ...] = tuple(TABLE["releases"])
_COUNTS = {
    Anchor(row["target"], row["text"]): dict(zip(RELEASES, row["counts"], strict=True)) for row in TABLE["anchors"]
}
AGAIN = "run tools/pin_wheels.py over the wheels, which says how"


def known(anchor: Anchor) -> bool:
    """Whether the table has it."""
    return anchor in _COUNTS


def anchors() -> frozenset[Anchor]:
    """Those in the table."""
    return frozenset(_COUNTS)


def wheel(release: str) -> Source:
    """That release, as far as the table knows it. KeyError for an anchor that it lacks."""

    def pinned(anchor: Anchor) -> Pin:
        count = _COUNTS[anchor][release]
        state: State = "matched" if count == 1 else "ambiguous" if count > 1 else "not found"
        return Pin(anchor, state, max(count, 0), f"{count} times in the wheel of {release}", there=count >= 0)

    return Source(release, pinned)
