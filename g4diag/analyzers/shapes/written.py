"""Which slots a layer's K/V is written to where they are not the layer's own."""

from __future__ import annotations

from g4diag.analyzers.shapes.contract import Shape
from g4diag.model import Incident, KVSlots

_FULL, _DUMMY, _OTHER = "full slots", "dummy", "other slots"


def told(write: KVSlots, incident: Incident) -> str:
    """Full slots where every bad one is the batch's own by its full number, and the two numberings differ there."""
    expected_N = write.expected_N()
    if expected_N is None or write.slots_N is None or write.full_slots_N is None:
        return ""
    bad_N = write.slots_N != expected_N
    if not bad_N.any():
        return ""
    if (write.slots_N[bad_N] == write.full_slots_N[bad_N]).all():
        return _FULL
    return _DUMMY if (write.slots_N[bad_N] == 0).all() else _OTHER


SHAPE = Shape(
    "written",
    {
        _FULL: "the batch's own slots, numbered as in the full pool",
        _DUMMY: "slot 0",
        _OTHER: "slots that are not the batch's in either space",
    },
    KVSlots,
    told,
)
