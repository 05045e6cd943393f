"""Retractions: requests that the scheduler put back because a pool was full; one event for a run of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from g4diag.logs.contract import EventKind, Line
from g4diag.logs.tellers import folded
from g4diag.model.log import Retractions

_RETRACT = re.compile(
    r"(?:KV cache pool is full\. |Decode out of memory happened\. )?(?:Retract requests\.|#retracted_reqs: )"
)
_REQUESTS = re.compile(r"#retracted_reqs: (\d{1,9})")


def read(line: Line, place: dict[str, Any]) -> Retractions | None:
    """One line."""
    if not _RETRACT.match(line.text):
        return None
    found = _REQUESTS.search(line.text[:400])
    return Retractions(**place, requests=int(found[1]) if found else 0, last=line.time)


def _merge(first: Retractions, later: Retractions) -> Retractions:
    return replace(first, count=first.count + 1, requests=first.requests + later.requests, last=later.last)


EVENT = EventKind(
    "retraction",
    (
        r"Retract requests\.",
        "#retracted_reqs:",
    ),
    folded(read, lambda event: event.process, _merge),
)
