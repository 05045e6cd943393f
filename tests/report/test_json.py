"""The JSON report: versioned, deterministic, ASCII."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings

from g4diag.analyzers import inspect_file, inspect_files, inspect_incident
from g4diag.discover import contributions
from g4diag.model import Incident, RingRecord
from g4diag.report.json import document, render
from tests import samples, strategies

ROOT = Path(__file__).parents[2]
DOC, DUMPS = ROOT / "docs" / "inspect-json.md", sorted((ROOT / "dumps").glob("*.pt"))


def test_shape() -> None:
    read = json.loads(render(inspect_incident(samples.faulty_incident(), "x.pt")))
    assert (read["schema"], read["version"]) == ("g4diag.inspect", 3)
    assert (read["outcome"], read["exit_code"], read["file"]) == ("error", 1, "x.pt")
    assert read["verdict"].startswith("ERROR: g4diag: ")
    assert read["verdict"] in [finding["text"] for finding in read["findings"]]
    entries = next(f for f in read["findings"] if f["subject"] == "nearest_meaning")["data"]["entries"]
    assert entries[0]["value"] == 188 and entries[0]["owner"] == {"rid": "r7", "first": 3840, "last": 3903}


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_is_strict_ascii_json(incident: Incident) -> None:
    text = render(inspect_incident(incident, "x"))
    assert text.isascii() and text == render(inspect_incident(incident, "x"))
    json.loads(text, parse_constant=lambda name: 1 / 0)


def documented(heading: str) -> dict[str, set[str]]:
    """First cell -> names in backticks of the second one, of the table under a heading of docs/inspect-json.md."""
    section = DOC.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    return {name: set(re.findall(r"`([\w-]+)`", said)) for name, said in rows}


def test_the_page_names_every_field_of_the_document() -> None:
    inspection = inspect_incident(samples.faulty_incident(), "x.pt")
    made = document(replace(inspection, parts=(inspection,)))
    assert list(documented("The document")) == list(made)
    assert list(made["parts"][0]) == [key for key in made if key not in ("schema", "version", "parts")]
    assert {key for finding in made["findings"] for key in finding} == set(documented("A finding"))


def test_the_page_names_every_subject_and_the_fields_of_its_data() -> None:
    by_subject = documented("`data` by subject")
    analyzers = {found.name for found in contributions("g4diag.analyzers", "ANALYZER")}
    assert set(by_subject) == analyzers | {"parts", "timeline"}, "two come of several files only"
    ring = tuple(RingRecord(n, n, "step", n, full_size=9, full_free=5, swa_size=9, swa_free=5) for n in (1, 2))
    with_ring = inspect_incident(replace(samples.faulty_incident(), ring=ring), "x")
    made = [inspect_files(DUMPS), *map(inspect_file, DUMPS), with_ring]
    unnamed = {
        (finding.subject, key)
        for inspection in made
        for finding in inspection.findings
        for key in finding.data
        if key not in by_subject[finding.subject]
    }
    assert len(DUMPS) >= 6 and not unnamed
