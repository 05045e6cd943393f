"""The JSON report: versioned, deterministic, ASCII."""

from __future__ import annotations

import json

from hypothesis import given, settings

from g4diag.analyzers import inspect_incident
from g4diag.model import Incident
from g4diag.report.json import render
from tests import samples, strategies


def test_shape() -> None:
    document = json.loads(render(inspect_incident(samples.faulty_incident(), "x.pt")))
    assert (document["schema"], document["version"]) == ("g4diag.inspect", 1)
    assert (document["outcome"], document["exit_code"], document["file"]) == ("defect", 1, "x.pt")
    assert document["verdict"].startswith("ERROR: g4diag: ")
    assert document["verdict"] in [finding["text"] for finding in document["findings"]]
    entries = next(f for f in document["findings"] if f["subject"] == "nearest_meaning")["data"]["entries"]
    assert entries[0]["value"] == 188 and entries[0]["owner"] == {"rid": "r7", "first": 3840, "last": 3903}


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_is_strict_ascii_json(incident: Incident) -> None:
    text = render(inspect_incident(incident, "x"))
    assert text.isascii() and text == render(inspect_incident(incident, "x"))
    json.loads(text, parse_constant=lambda name: 1 / 0)
