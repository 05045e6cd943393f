"""Accept length of a log as a Plotly figure, with the pools' use below it, over time. Formats; computes nothing."""

from __future__ import annotations

from typing import Any

from g4diag.model import Finding, Inspection
from g4diag.report.html.chart import Chart, css
from g4diag.report.html.markup import escaped

# Key of a course's points -> name, colour, dash.
USES = {"swa_use": ("SWA pool", "--wrong", "solid"), "full_use": ("full pool", "--right", "dash")}


def courses(inspection: Inspection) -> tuple[Finding, ...]:
    """The processes whose accept length was followed."""
    return tuple(finding for finding in inspection.of("accept_course") if "points" in finding.data)


def accept_chart(n: int, finding: Finding) -> Chart:
    """Accept length above, use of the pools below."""
    points = finding.data["points"]
    along, title = _along(points)
    loads = [f", {load} requests" if load >= 0 else "" for load in points["requests"]]
    hover = [f"log line {line}{load}" for line, load in zip(points["line"], loads, strict=True)]
    traces = [_line("accept length", "--ink", "solid", along, points["accept"], hover, "%{y:.2f}")]
    for key, (name, colour, dash) in USES.items():
        if min(points[key]) >= 0:
            use = [round(100 * share, 2) for share in points[key]]
            traces.append(_line(name, colour, dash, along, use, hover, "%{y:.0f} %") | {"yaxis": "y2"})
    below = len(traces) > 1
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": title}, "zeroline": False, "anchor": "y2" if below else "y"},
        "yaxis": {
            "title": {"text": "accept length"},
            "range": [0.9, max(points["accept"]) * 1.08],
            "domain": [0.48 if below else 0, 1],
        },
    }
    if below:
        layout["yaxis2"] = {"title": {"text": "in use, %"}, "range": [0, 104], "domain": [0, 0.38]}
    return Chart(f"accept-{n}", 400 if below else 260, finding.text, {"data": traces, "layout": layout})


def _along(points: dict[str, Any]) -> tuple[list[float], str]:
    """Seconds since the first decode line; lines of the log where one has no time."""
    times = points["time"]
    if None in times:
        return points["line"], "line of the log"
    return [round(time - times[0], 3) for time in times], "seconds since the first decode line"


def _line(
    name: str, colour: str, dash: str, x: list[float], y: list[float], hover: list[str], value: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": escaped(name),
        "x": x,
        "y": y,
        "line": {"color": css(colour), "dash": dash, "width": 2},
        "marker": {"color": css(colour), "size": 5},
        "hovertext": hover,
        "hovertemplate": f"{value}<br>%{{hovertext}}<extra>{escaped(name)}</extra>",
    }
