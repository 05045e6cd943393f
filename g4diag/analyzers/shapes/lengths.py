"""How the lengths that a layer was given differ from the batch's: an earlier step's, or this step's keys twice."""

from __future__ import annotations

import numpy as np

from g4diag.analyzers.shapes.contract import Shape
from g4diag.model import AttentionRead, Incident

_TWICE, _EARLIER, _OTHER = "new tokens twice", "too short", "other"


def told(read: AttentionRead, incident: Incident) -> str:
    """Of all rows that differ."""
    if read.batch_lens_B is None:
        return ""
    more_B = read.seq_lens_B.astype(np.int64) - read.batch_lens_B
    stale_B = more_B != 0
    if not stale_B.any():
        return ""
    if (more_B[stale_B] == read.q_len).all():
        return _TWICE
    return _EARLIER if (more_B[stale_B] < 0).all() else _OTHER


SHAPE = Shape(
    "lengths",
    {
        _TWICE: "longer by as many keys as this step has queries",
        _EARLIER: "shorter than the batch's: keys are missed",
        _OTHER: "neither",
    },
    AttentionRead,
    told,
)
