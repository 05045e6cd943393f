"""What a picture of the page is, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chart:
    """id: of the element it is drawn in. height: pixels. about: one sentence for who cannot see it."""

    id: str
    height: int
    about: str
    figure: dict[str, Any]


def css(name: str) -> dict[str, str]:
    """A colour of the page's style, looked up when it is drawn, so that it follows light and dark."""
    return {"css": name}
