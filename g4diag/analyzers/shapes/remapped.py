"""What a full slot maps to where it should map to something else: kept after a free, kept by an allocation."""

from __future__ import annotations

import numpy as np

from g4diag.analyzers.shapes.contract import Shape
from g4diag.model import Incident, MappingUpdate

_PUT_OFF, _KEPT, _STALE, _UNWRITTEN, _OTHER = "free put off", "kept by a free", "left by an owner", "unwritten", "other"
_AT_END = "freed at a group's end"


def told(update: MappingUpdate, incident: Incident) -> str:
    """By the updates and the releases before it in the file."""
    bad_N = update.mapped_N != update.swa_slots_N
    if not bad_N.any():
        return ""
    found_N, wanted_N = update.mapped_N[bad_N], update.swa_slots_N[bad_N]
    if (found_N == 0).all():
        return _AT_END if update.call == "free_group_end" else _UNWRITTEN
    if (wanted_N != 0).any():
        return _OTHER
    if update.call.startswith("free"):
        return _KEPT if np.isin(found_N, _released(incident)).any() else _PUT_OFF
    return _STALE


def _released(incident: Incident) -> np.ndarray:
    """int64[N]: every SWA slot that a release of the file gave back."""
    given = [release.slots_N for release in incident.releases if release.pool.space.is_swa]
    return np.concatenate(given) if given else np.zeros(0, np.int64)


SHAPE = Shape(
    "remapped",
    {
        _PUT_OFF: "freed slots still map, and their SWA slots are in no release of the file",
        _KEPT: "freed slots still map, though their SWA slots were given back",
        _STALE: "an allocation left slots that it gives no SWA slot to as it found them",
        _AT_END: "slots that were mapped inside a free group map to nothing after its end",
        _UNWRITTEN: "slots that were handed out map to nothing",
        _OTHER: "slots map to another SWA slot than the one handed out",
    },
    MappingUpdate,
    told,
)
