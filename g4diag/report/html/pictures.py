"""The sections around the pictures: what is shown, a legend in words, and the same as text where scripts are off."""

from __future__ import annotations

from g4diag.model import Finding, Inspection
from g4diag.report import words
from g4diag.report.html.chart import Chart
from g4diag.report.html.charts import MAPPING_MARKS, TABLE_COLOURS, charts
from g4diag.report.html.markup import escaped, graded, section


def page_tables(inspection: Inspection) -> str:
    """One picture a read, as the analyzer chose them."""
    drawn = {chart.id: chart for chart in charts(inspection)}
    shown = [
        f"<h3>{escaped(_title(finding))}</h3>\n<p>{escaped(_says(finding))}</p>\n"
        f"{_table_legend(finding)}{place(drawn[f'table-{n}'])}{_as_text(finding)}"
        for n, finding in enumerate(inspection.of("table_map"))
        if f"table-{n}" in drawn
    ]
    return section("Page tables", "".join(shown))


def _title(finding: Finding) -> str:
    data = finding.data
    layer = words.layer(data)
    step = f" at step {data['step']}" if data["step"] >= 0 else ""
    return (
        f"{layer[0].upper()}{layer[1:]} reads the {data['pool']} pool of {data['num_pages']} {words.unit(data)}s{step}"
    )


def _says(finding: Finding) -> str:
    data = finding.data
    handed, wanted = data["table_space"], data["expected_space"]
    text = f"{finding.text[0].upper()}{finding.text[1:]}."
    if handed is not None and handed != wanted:
        text += f" The table was built in {handed}s, and this pool is addressed in {wanted}s."
    if data["columns_a_cell"] > 1 or data["rows_a_cell"] > 1:
        text += f" A cell stands for {data['rows_a_cell']} x {data['columns_a_cell']} entries, the worst of them shown."
    width = len(data["rows"][0]) * data["columns_a_cell"]
    if width < data["table_columns"]:
        last = data["first_column"] + width - 1
        text += f" Columns {data['first_column']} to {last} are shown; no other is live in any row."
    if data["left_out_reads"]:
        text += f" {data['left_out_reads']} more reads have wrong entries."
    return text


def _table_legend(finding: Finding) -> str:
    data = finding.data
    items = "".join(
        f'<li><span class="swatch" style="background:var({colour})" aria-hidden="true"></span>'
        f"{escaped(data['legend'][sign])}: {data['counts'][sign]}</li>\n"
        for sign, colour in TABLE_COLOURS.items()
        if data["counts"][sign]
    )
    return f'<ul class="legend">{items}</ul>\n'


def place(chart: Chart) -> str:
    """Where it is drawn."""
    return (
        f'<div class="chart" id="{chart.id}" style="min-height:{chart.height}px" role="img" '
        f'aria-label="{escaped(chart.about)}"></div>\n'
    )


def _as_text(finding: Finding) -> str:
    data = finding.data
    signs = ", ".join(f"{sign} {name}" for sign, name in data["legend"].items())
    lines = "\n".join(escaped(line) for line in data["rows"])
    return f"<details><summary>As text</summary><p>{escaped(signs)}</p><pre>{lines}</pre></details>\n"


def mapping(inspection: Inspection) -> str:
    """Full pages to SWA pages."""
    chart = next((chart for chart in charts(inspection) if chart.id == "mapping"), None)
    finding = next(iter(inspection.of("mapping_map")), None)
    if chart is None or finding is None:
        return ""
    counts, bound, wide = finding.data["counts"], finding.data["swa_num_pages"], finding.data["pages_a_point"]
    items = "".join(
        f'<li><span class="mark" style="color:var({colour})" aria-hidden="true">{sign}</span>'
        f"{escaped(name)}: {counts[name]}</li>\n"
        for name, (colour, _, sign) in MAPPING_MARKS.items()
        if counts.get(name)
    )
    text = f"{finding.text}. On the dotted line both spaces number a page alike."
    if bound is not None:
        text += f" In the tinted part a full page id, read as an SWA page, is past the end ({bound} pages)."
    if any(trace["name"] == "handed untranslated" for trace in chart.figure["data"]):
        text += " Rings: wrong entries of the page tables."
    if wide > 1:
        text += f" A point stands for {wide} pages, the oddest of them shown."
    return section("Full to SWA pages", f'<p>{escaped(text)}</p>\n<ul class="legend">{items}</ul>\n{place(chart)}')


def occupancy(inspection: Inspection) -> str:
    """Use of the pools over the recorder's steps."""
    findings = inspection.of("occupancy")
    chart = next((chart for chart in charts(inspection) if chart.id == "occupancy"), None)
    if chart is None:
        return ""
    items = "".join(
        f'<li><span class="mark" style="color:var({colour})" aria-hidden="true">{sign}</span>{name}</li>\n'
        for name, colour, sign in (
            ("full pool", "--right", "\u254c"),
            ("SWA pool", "--wrong", "\u2501"),
            ("full slots without an SWA side", "--before", "\u25ac"),
        )
    )
    return section("Pools over time", f'{graded(findings)}<ul class="legend">{items}</ul>\n{place(chart)}')
