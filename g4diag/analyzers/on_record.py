"""What traps recorded while the server ran, told where the file holds no view to judge again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g4diag.analyzers.contract import Analyzer
from g4diag.analyzers.judging import judge
from g4diag.analyzers.recorded_violations import recorded, told
from g4diag.model import Finding, Grade, Incident, Violation
from g4diag.verdict import before_the_first, numbers_of, past_the_end, verdict_line

_SHOWN = 3
_TOLD = ("trap", "step", "layer_id", "row", "column", "value", "expected", "low", "bound", "window_left")


def analyze(incident: Incident) -> Iterator[Finding]:
    """The first violations on record, then what the recorder's pool sizes say of each. None where a view of the file
    can be judged: then `rejudge` tells."""
    if judge(incident).checked:
        return
    for said, placed in zip(told(incident)[:_SHOWN], recorded(incident), strict=False):
        text = f"on record, not judged again: {verdict_line(said)}"
        data: dict[str, Any] = {name: getattr(said, name) for name in _TOLD} | {"past_the_end": past_the_end(said)}
        data |= {"before_the_first": before_the_first(said), "said": numbers_of(said.summary)}
        yield Finding("on_record", text, Grade.MEASURED, False, data, "recorded")
        if placed != said:
            data = {"trap": said.trap, "bound": placed.bound, "value": placed.value, "layer_id": placed.layer_id}
            data |= {"kind": str(placed.layer_kind), "space": str(placed.expected_space)}
            data |= {"value_space": str(placed.value_space) if placed.value_space else None}
            why = ("the recorder's pool sizes are those of the pools that the trap judged by",)
            yield Finding("on_record", _reading(placed), Grade.DERIVED, False, data, "placed", why)


def _reading(placed: Violation) -> str:
    layer = "the layer" if placed.layer_id is None else f"layer {placed.layer_id}"
    text = f"by the recorder's pool sizes bound {placed.bound} is the end of the {placed.layer_kind} pool, "
    text += f"so {layer} is addressed in {placed.expected_space}s"
    return text + (f"; {placed.value} is a {placed.value_space}" if placed.value_space else "")


ANALYZER = Analyzer("on_record", "What did traps record that this file does not let us judge again?", analyze)
