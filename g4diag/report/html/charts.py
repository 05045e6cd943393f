"""The pictures of the page as Plotly figures, in plain values. Formats what the analyzers found; computes nothing."""

from __future__ import annotations

from typing import Any

from g4diag.model import Finding, IndexSpace, Inspection
from g4diag.report import words
from g4diag.report.html.chart import Chart, css
from g4diag.report.html.log_charts import accept_chart, courses
from g4diag.report.html.markup import escaped

# Sign of a table's state -> its colour, from harmless to worst, as the analyzer numbers them.
TABLE_COLOURS = {".": "--off", "o": "--right", "?": "--unknown", "w": "--wrong", "<": "--before", ">": "--past"}
# State of a mapped page -> colour, Plotly's marker, and the same marker for a text legend.
MAPPING_MARKS = {
    "same number": ("--right", "circle", "\u25cf"),
    "another number": ("--wrong", "diamond", "\u25c6"),
    "unmapped": ("--muted", "line-ns-open", "\u2758"),
    "mapped, yet free": ("--before", "triangle-up", "\u25b2"),
    "shared SWA page": ("--past", "x", "\u2716"),
}
_MOST_LABELLED = 32


def charts(inspection: Inspection) -> list[Chart]:
    """Every picture the findings allow, page tables first."""
    # One without data is an analyzer's that did not load.
    tables = tuple(finding for finding in inspection.of("table_map") if finding.data)
    found = [table_chart(n, finding) for n, finding in enumerate(tables)]
    found += [mapping_chart(finding, tables) for finding in inspection.of("mapping_map")[:1] if finding.data]
    occupancy = tuple(finding for finding in inspection.of("occupancy") if finding.data)
    found += [occupancy_chart(occupancy)] if occupancy else []
    return found + [accept_chart(n, finding) for n, finding in enumerate(courses(inspection))]


def table_chart(n: int, finding: Finding) -> Chart:
    """One page table, rows by columns."""
    data = finding.data
    signs, wide, tall = list(TABLE_COLOURS), data["columns_a_cell"], data["rows_a_cell"]
    height, width = len(data["rows"]), len(data["rows"][0])
    columns = [data["first_column"] + x * wide for x in range(width)]
    values: list[list[str]] = [[""] * width for _ in range(height)]
    hover = [[_dead_cell(y * tall, columns[x], data) for x in range(width)] for y in range(height)]
    for cell in data["cells"]:
        y, x = cell["row"] // tall, (cell["column"] - data["first_column"]) // wide
        values[y][x] = str(cell["value"])
        hover[y][x] = _live_cell(cell, data["rows"][y][x], data)
    steps = [(i + edge) / len(signs) for i in range(len(signs)) for edge in (0, 1)]
    trace = {
        "type": "heatmap",
        "x": columns,
        "y": _row_names(data),
        "z": [[signs.index(sign) for sign in line] for line in data["rows"]],
        "zmin": -0.5,
        "zmax": len(signs) - 0.5,
        "colorscale": [[step, css(TABLE_COLOURS[signs[i // 2]])] for i, step in enumerate(steps)],
        "showscale": False,
        "xgap": 1 if width > _MOST_LABELLED else 2,
        "ygap": 1 if height > _MOST_LABELLED else 2,
        "hoverinfo": "text",
        "hovertext": hover,
    }
    if width <= _MOST_LABELLED and wide == tall == 1:
        trace |= {"text": values, "texttemplate": "%{text}"}
    title = "page-table column" + (f", {wide} a cell" if wide > 1 else "")
    ticks = {"tickmode": "array", "tickvals": columns[:: max(width // 8, 1)]} if width > 1 else {"dtick": 1}
    layout = {
        "xaxis": {"title": {"text": title}, "tickformat": "d", "showgrid": False, "zeroline": False} | ticks,
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, "automargin": True},
    }
    return Chart(f"table-{n}", min(max(height * 34, 70), 560) + 80, finding.text, {"data": [trace], "layout": layout})


def _row_names(data: dict[str, Any]) -> list[str]:
    tall, rids = data["rows_a_cell"], data["rids"]
    names = [f"row {y * tall}" for y in range(len(data["rows"]))]
    # Numbers in front, so that two rows of one request stay two.
    return [f"{name} {escaped(rids[y])[:8]}" if y < len(rids) and tall == 1 else name for y, name in enumerate(names)]


def _dead_cell(row: int, column: int, data: dict[str, Any]) -> str:
    return f"row {row}, column {column}<br>{data['legend']['.']}"


def _live_cell(cell: dict[str, Any], sign: str, data: dict[str, Any]) -> str:
    size, bound = data["page_size"], data["num_pages"]
    first, unit = cell["first_position"], words.unit(data)
    past = f"{cell['value'] - bound + 1} past the last of " if cell["value"] >= bound else "one of "
    expected = cell["expected"]
    belongs = "no mapped page" if expected is not None and expected <= 0 else expected
    lines = [
        f"<b>{escaped(data['legend'][sign])}</b>: {unit} {cell['value']}",
        f"row {cell['row']}, column {cell['column']}, tokens {first}..{first + size - 1}",
        f"as {_a(data['expected_space'])}: {past}{bound} {unit}s",
        *([] if expected is None else [f"belongs there: {belongs}"]),
        *_wrapped(escaped(cell["meaning"])),
        f"owner: {escaped(cell['owner'])}" if cell["owner"] is not None else "owner: not recorded",
    ]
    return "<br>".join(lines)


def _a(space: str) -> str:
    return f"an {space}" if space.startswith("S") else f"a {space}"


def _wrapped(text: str) -> list[str]:
    """In lines that a phone can show."""
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > 44:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def mapping_chart(finding: Finding, tables: tuple[Finding, ...]) -> Chart:
    """Full pages to SWA pages; the diagonal is where both spaces number alike."""
    data, bound = finding.data, finding.data["swa_num_pages"]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": points["full"],
            "y": points["swa"],
            "marker": {"color": css(MAPPING_MARKS[name][0]), "symbol": MAPPING_MARKS[name][1], "size": 6},
            "hovertemplate": f"full page %{{x}}<br>SWA page %{{y}}<br>{name}<extra></extra>",
        }
        for name, points in data["points"].items()
        if name in MAPPING_MARKS
    ]
    if offending := _offending(tables):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "handed untranslated",
                "x": [value for value, _ in offending],
                "y": [expected for _, expected in offending],
                "marker": {"color": css("--past"), "symbol": "circle-open", "size": 13, "line": {"width": 2}},
                "hovertemplate": "handed: %{x}<br>belongs there: %{y}<extra></extra>",
            }
        )
    end = max((max(trace["x"], default=1) for trace in traces), default=1)
    top = max(max((max(trace["y"], default=1) for trace in traces), default=1), 1)
    line = {"type": "line", "x0": 0, "y0": 0, "x1": min(end, top), "y1": min(end, top), "layer": "below"}
    shapes: list[dict[str, Any]] = [line | {"line": {"color": css("--muted"), "dash": "dot", "width": 1}}]
    if bound is not None and bound <= end:
        area = {
            "type": "rect",
            "x0": bound - 0.5,
            "x1": end * 1.03,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "layer": "below",
        }
        shapes.append(area | {"fillcolor": css("--past"), "opacity": 0.09, "line": {"width": 0}})
    layout = {
        "shapes": shapes,
        "xaxis": {"title": {"text": "full page"}, "range": [-0.02 * end, end * 1.03], "zeroline": False},
        "yaxis": {"title": {"text": "SWA page"}, "range": [-0.04 * top, top * 1.06], "zeroline": False},
    }
    return Chart("mapping", 380, finding.text, {"data": traces, "layout": layout})


def _offending(tables: tuple[Finding, ...]) -> list[tuple[int, int]]:
    """(full page handed, SWA page that belongs there) of the wrong entries of SWA layers."""
    return [
        (cell["value"], cell["expected"])
        for finding in tables
        if finding.data["expected_space"] == IndexSpace.SWA_PAGE
        for cell in finding.data["cells"]
        if cell["expected"] is not None and cell["expected"] > 0 and cell["value"] not in (cell["expected"], 0)
    ]


def occupancy_chart(findings: tuple[Finding, ...]) -> Chart:
    """The pools' use over the recorded steps, and below it the slots that have lost their SWA side."""
    looks = {"full": (css("--right"), "dash"), "swa": (css("--wrong"), "solid")}
    traces: list[dict[str, Any]] = []
    for finding in findings:
        points, name = finding.data["points"], finding.data.get("pool")
        if name is not None:
            colour, dash = looks.get(name, (css("--muted"), "dot"))
            about = zip(points["seconds"], points["mode"], points["batch"], points["waiting"], strict=True)
            hover = [
                f"{-seconds:.2f} s before the last step<br>{escaped(mode)}, {batch} requests, {waiting} waiting"
                for seconds, mode, batch, waiting in about
            ]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": f"{escaped(name)} pool",
                    "x": points["step"],
                    "y": [100 * use for use in points["use"]],
                    "line": {"color": colour, "dash": dash, "width": 2, "shape": "hv"},
                    "marker": {"color": colour, "size": 5},
                    "hovertext": hover,
                    "hovertemplate": "step %{x}: %{y:.1f} %<br>%{hovertext}<extra>%{fullData.name}</extra>",
                }
            )
        else:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": "without an SWA side",
                    "x": points["step"],
                    "y": points["slots"],
                    "yaxis": "y2",
                    "fill": "tozeroy",
                    "line": {"color": css("--before"), "width": 2, "shape": "hv"},
                    "hovertemplate": "step %{x}: %{y} full slots without an SWA side<extra></extra>",
                }
            )
    below = any(trace.get("yaxis") == "y2" for trace in traces)
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "step"}, "zeroline": False, "anchor": "y2" if below else "y"},
        "yaxis": {"title": {"text": "in use, %"}, "range": [0, 104], "domain": [0.42 if below else 0, 1]},
    }
    if below:
        layout["yaxis2"] = {"title": {"text": "slots"}, "rangemode": "tozero", "domain": [0, 0.3]}
    return Chart("occupancy", 400 if below else 280, findings[0].text, {"data": traces, "layout": layout})
