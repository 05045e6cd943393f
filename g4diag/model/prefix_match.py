"""The view of a prefix cache's match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from g4diag.model.nouns import IntArray


@dataclass(frozen=True)
class PrefixMatch:
    """What a prefix cache of a hybrid SWA server has for the start of a request's tokens.

    cache: its class. tokens: how many it has on the device. window: keys left of a query that a sliding layer sees.
    full_slots_N: int64, the full slots of the last `window` of them, by position. mapped_N: int64, the SWA slots that
    these map to, 0: none."""

    KIND: ClassVar[str] = "prefix_matches"
    CHECKED: ClassVar[str] = "slots in the window of this match"

    cache: str
    tokens: int
    window: int
    full_slots_N: IntArray
    mapped_N: IntArray
