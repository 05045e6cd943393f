"""The page as text: it names nothing to fetch, embeds evidence harmlessly, and its figures are figures of Plotly's."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings

from g4diag.analyzers import inspect_incident
from g4diag.matrix.cells import matrix
from g4diag.matrix.words import affected_releases
from g4diag.model import Finding, Grade, Incident, Inspection, Outcome, RingRecord
from g4diag.report.html import render
from g4diag.report.html.charts import charts
from g4diag.report.html.sections import body
from tests import samples, strategies

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u2028\u202e'\"&`--<!--"


def inspected() -> Inspection:
    """The frozen-KV SWA bug with a flight recorder: every picture has something to show."""
    ring = tuple(
        RingRecord(n, n * 10**9, "step", n, "DECODE", 3, 3, 90, 1, 65536, 65536 - 900 * n, 9792, 9792 - 800 * n)
        for n in range(1, 12)
    )
    return inspect_incident(replace(samples.faulty_incident(), ring=ring), "x.pt")


class Page(HTMLParser):
    """Elements, what the scripts hold, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data


def test_the_first_screen_comes_first() -> None:
    text = Page(body(inspected())).text
    said = [
        "ERROR: g4diag: ",
        "past the last of 154 pages",
        "Not the released code",
        "Where",
        "Whose fault",
        "How sure",
        "Cure",
    ]
    said += ["Known issue", "Next command", "Evidence", "Index space", "Ruled out", "Page tables"]
    places = [text.index(part) for part in said]
    assert places == sorted(places)


def test_the_releases_of_a_known_issue_are_told() -> None:
    where = affected_releases(matrix(), "trtllm-mha-swa")
    assert f"Affected releases of trtllm-mha-swa: {where}" in Page(body(inspected())).text and where


def test_the_policy_names_both_scripts_and_nothing_else() -> None:
    page = Page(render(inspected()))
    policy = next(a["content"] or "" for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    run = [a for tag, a in page.elements if tag == "script"]
    assert [attributes.get("type") for attributes in run] == ["application/json", "text/plain", None]
    assert not any("src" in attributes for attributes in run)
    run_here = gzip.decompress(base64.b64decode(page.scripts[1])), page.scripts[2].encode()
    wanted = {f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in run_here}
    directives = dict(part.split(maxsplit=1) for part in policy.split("; "))
    assert set(directives["script-src"].split()) == wanted and directives["default-src"] == "'none'"


def test_nothing_is_fetched_and_every_picture_has_its_place() -> None:
    inspection = inspected()
    page = Page(render(inspection))
    assert not any(a.get("src") for _, a in page.elements)
    addresses = [str(a["href"]) for _, a in page.elements if "href" in a]
    # A link is followed by a person; the policy lets the page itself ask for nothing.
    assert addresses[0] == "data:," and len(addresses) > 1
    assert all(address.startswith("https://github.com/sgl-project/sglang/issues/") for address in addresses[1:])
    wanted = [chart.id for chart in charts(inspection)]
    assert wanted == ["table-0", "mapping", "occupancy"] == [chart["id"] for chart in json.loads(page.scripts[0])]
    assert set(wanted) <= {a.get("id") for _, a in page.elements}


def test_evidence_stays_text() -> None:
    read = samples.faulty_read(backend=HOSTILE, path=HOSTILE, rids=(HOSTILE,))
    incident = samples.incident(read, origin=HOSTILE, notes=((Grade.GUESS, HOSTILE),), versions={HOSTILE: HOSTILE})
    inspection = inspect_incident(incident, HOSTILE)
    extra = Finding("brand_new", HOSTILE, Grade.GUESS, False, {HOSTILE: [HOSTILE]})
    inspection = Inspection(HOSTILE, HOSTILE, inspection.outcome, (*inspection.findings, extra), (inspection,))
    text, calm = render(inspection), render(inspected())
    page = Page(text)
    assert len(page.scripts) == 3 and not any(tag == "img" or "onerror" in a for tag, a in page.elements)
    assert text.count("</script") == calm.count("</script") and not {"\u2028", "\u202e"} & set(text)
    assert HOSTILE[:20] in page.text, "shown, not dropped"
    assert "<" not in page.scripts[0], "nothing in the data can end its script"


def test_what_the_page_does_not_know_is_shown_all_the_same() -> None:
    extra = Finding("brand_new", "something seen", Grade.DERIVED, False, {"key": [1, "two"]})
    part = Inspection("rank1.pt", "g4diag", Outcome.HEALTHY, (extra,))
    text = Page(body(Inspection("x", "y", Outcome.INCONCLUSIVE, (extra,), (part,)))).text
    assert all(said in text for said in ("Brand new", "something seen", '"two"', "rank1.pt: healthy"))


def test_several_files_have_a_timeline() -> None:
    moment = {"time": 1.0, "after": 0.25, "step": 7, "part": "rank1.pt", "kind": "step", "text": "<b>DECODE</b>"}
    timeline = Finding("timeline", "one moment", Grade.MEASURED, False, {"moments": [moment], "left_out": 0})
    text = Page(body(Inspection("x", "y", Outcome.INCONCLUSIVE, (timeline,)))).text
    assert all(said in text for said in ("one moment", "0.25", "rank1.pt", "<b>DECODE</b>"))


def test_an_analyzer_that_does_not_load_costs_only_its_picture() -> None:
    broken = tuple(
        Finding(subject, "this analyzer does not load: x", Grade.MEASURED)
        for subject in ("table_map", "mapping_map", "occupancy", "nearest_meaning", "pools", "verdict", "cure")
    )
    assert "Broken" not in body(Inspection("x", "y", Outcome.INCONCLUSIVE, broken))


def test_figures_are_plotlys() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    drawn = charts(inspected())
    assert len(drawn) == 3
    for chart in drawn:
        painted = json.loads(re.sub(r'\{"css": "--[a-z]+"\}', '"#000000"', json.dumps(chart.figure)))
        graph_objects.Figure(painted)


def test_hover_says_entry_both_meanings_and_owner() -> None:
    table = charts(inspected())[0].figure["data"][0]
    hover = next(cell for line in table["hovertext"] for cell in line if "page 188" in cell).replace("<br>", " ")
    for said in (
        "past the end",
        "column 60",
        "belongs there: 100",
        "its SWA page is 100",
        "35 past the last of 154 pages",
        "owner: r7",
    ):
        assert said in hover


def test_a_page_is_small_and_one_without_pictures_holds_no_script() -> None:
    page = render(inspected())
    assert len(page) < 1_500_000 and len(charts(inspected())) == 3
    plain = render(Inspection("x", "y", Outcome.INCONCLUSIVE, ()))
    assert len(plain) < 100_000 and "<script" not in plain and "script-src" not in plain


@settings(max_examples=25, deadline=None)
@given(strategies.incidents)
def test_any_incident_renders_the_same_twice(incident: Incident) -> None:
    inspection = inspect_incident(incident, "x")
    assert body(inspection) == body(inspection)
    assert [chart.figure for chart in charts(inspection)] == [chart.figure for chart in charts(inspection)]
    json.dumps([chart.figure for chart in charts(inspection)], allow_nan=False)
