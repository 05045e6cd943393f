"""What the page and the Markdown say of logs: crashes in order, leak sums, kernels, Xids, accept length, facts."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest

from g4diag.analyzers import inspect_files
from g4diag.model import Inspection
from g4diag.report import markdown
from g4diag.report.html import render
from g4diag.report.html.charts import charts
from g4diag.report.html.sections import body
from tests.report.test_html import Page

CASES = Path(__file__).parents[1] / "logs" / "cases"


@functools.cache
def inspected(number: str) -> Inspection:
    (path,) = CASES.glob(f"{number}-*")
    return inspect_files([path])


def headings(number: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", body(inspected(number)))


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        ("01", ["The crash", "Kernels", "The server"]),
        ("10", ["The crash", "Leak sums"]),
        ("14", ["KV canary"]),
        ("18b", ["Xids"]),
        ("32", ["Kernels"]),
        ("40", ["Accept length", "The server"]),
        ("49", ["Crashes in order"]),
    ],
)
def test_a_log_has_its_sections_in_order(number: str, wanted: list[str]) -> None:
    found = [title for title in headings(number) if title in wanted]
    assert found == wanted
    assert not {"Log story", "Pool leak", "Xid triage", "Accept course", "Log server"} & set(headings(number))


def test_which_rank_died_first_has_a_column() -> None:
    cells = re.findall("<td[^>]*>(.*?)</td>", body(inspected("65")))
    assert cells[2:4] == ["DP3 TP3 EP3", "DP0 TP0 EP0, DP5 TP5 EP5"]


def test_leak_sums_add_up_as_shown() -> None:
    page = body(inspected("10"))
    rows = re.findall("<tr><td.*?</tr>", page[page.index("Leak sums") :])
    assert len(rows) >= 2
    for row in rows:
        pool, *terms, total, over, _, _ = re.findall("<td[^>]*>(.*?)</td>", row)
        assert sum(map(int, terms)) - int(total) == (0 if over == "balanced" else int(over)), pool
    assert re.findall(r"\| `(full|swa)` \|.* (balanced|[+-]\d+) \|", markdown.render(inspected("10"))) == [
        ("full", "balanced"),
        ("swa", "-256"),
    ]


def test_accept_length_is_drawn_against_the_pools_over_time() -> None:
    inspection = inspected("40")
    (chart,) = charts(inspection)
    accept, swa, full = chart.figure["data"]
    points = inspection.of("accept_course")[0].data["points"]
    assert accept["y"] == points["accept"] and accept["y"][0] > 2.9 > 1.1 > accept["y"][-1]
    assert [round(use / 100, 2) for use in swa["y"]] == points["swa_use"] and swa["yaxis"] == full["yaxis"] == "y2"
    assert accept["x"] == swa["x"] == [time - points["time"][0] for time in points["time"]]
    page = Page(render(inspection))
    assert "accept-0" in {a.get("id") for _, a in page.elements} and json.loads(page.scripts[0])[0]["id"] == "accept-0"


def test_a_log_without_times_is_drawn_by_its_lines(tmp_path: Path) -> None:
    line = "Decode batch, #running-req: 4, token usage: 0.10, accept len: {:.2f}\n"
    (tmp_path / "x.log").write_text("".join(line.format(accept) for accept in (3, 3, 3, 2, 1.1, 1, 1, 1, 1)))
    (chart,) = charts(inspect_files([tmp_path / "x.log"]))
    assert chart.figure["data"][0]["x"] == list(range(1, 10)) and len(chart.figure["data"]) >= 1


@pytest.mark.parametrize("number", ["01", "62b", "07"])
def test_nothing_is_drawn_where_the_length_held(number: str) -> None:
    assert charts(inspected(number)) == [] and 'class="chart"' not in body(inspected(number))
