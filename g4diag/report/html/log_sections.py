"""What the page says of a log: crashes in order, leak sums, kernels, Xids, accept length and the server's facts."""

from __future__ import annotations

from typing import Any

from g4diag.model import Finding, Inspection
from g4diag.report.html.charts import charts
from g4diag.report.html.log_charts import USES
from g4diag.report.html.markup import escaped, graded, section, table
from g4diag.report.html.pictures import place

# Subjects that these sections show.
SHOWN = ("log_story", "kv_canary", "pool_leak", "sanitizer", "xid_triage", "accept_course", "log_server")
_TERMS = ("available", "evictable", "protected", "held", "uncached", "total")


def of_log(inspection: Inspection) -> str:
    """All of them, in the order in which a person asks; nothing where the file is no log."""
    return "".join(
        (
            _story(inspection.of("log_story")),
            section("KV canary", graded(inspection.of("kv_canary"))),
            _leaks(inspection.of("pool_leak")),
            section("Kernels", graded((*_kernels(inspection), *inspection.of("sanitizer")))),
            section("Xids", graded(inspection.of("xid_triage"))),
            _accept(inspection),
            _server(inspection.of("log_server")),
        )
    )


def _kernels(inspection: Inspection) -> list[Finding]:
    return [finding for finding in inspection.of("log_story") if "kernel" in finding.data]


def _story(findings: tuple[Finding, ...]) -> str:
    """Each crash with its time and ranks, the rank that died first in a column of its own."""
    told = [finding for finding in findings if "kernel" not in finding.data]
    crashes = [finding.data for finding in told if "ranks" in finding.data]
    rows = [(n, data["at"], *_ranks(data), data["surfaced"], data["source"]) for n, data in enumerate(crashes, start=1)]
    columns = ("crash", "time", "died first", "then", "surfaced at", "log line")
    shown = table(columns, rows, "Crashes in order", numeric=(0,)) if rows else ""
    return section("Crashes in order" if len(rows) > 1 else "The crash", graded(told) + shown)


def _ranks(data: dict[str, Any]) -> tuple[str, str]:
    ranks = [rank for rank in data["ranks"] if rank] or [rank for rank in (data["rank"],) if rank]
    return (ranks[0] if ranks else "", ", ".join(ranks[1:]))


def _leaks(findings: tuple[Finding, ...]) -> str:
    """The sums term by term: slots of each pool."""
    rows = []
    for finding in findings:
        data = finding.data
        off = f"{data['over']:+d}" if data["over"] else "balanced"
        pages = "" if data["pages"] is None or not data["over"] else data["pages"]
        rows.append((data["pool"], *(data[term] for term in _TERMS), off, pages, ", ".join(data["ranks"])))
    columns = ("pool", *_TERMS, "over or short", "pages", "ranks")
    shown = table(columns, rows, "Leak sums, in slots", numeric=range(1, 9)) if rows else ""
    return section("Leak sums", graded(findings) + shown)


def _accept(inspection: Inspection) -> str:
    drawn = [chart for chart in charts(inspection) if chart.id.startswith("accept-")]
    legend = ""
    if drawn:
        names = {trace["name"] for chart in drawn for trace in chart.figure["data"]}
        looks = (("accept length", "--ink"), *((name, colour) for name, colour, _ in USES.values()))
        items = "".join(
            f'<li><span class="mark" style="color:var({colour})" aria-hidden="true">\u2501</span>{escaped(name)}</li>\n'
            for name, colour in looks
            if name in names
        )
        legend = f'<ul class="legend">{items}</ul>\n'
    pictures = "".join(f"<h3>{escaped(chart.about.partition(': ')[0])}</h3>\n{place(chart)}" for chart in drawn)
    return section("Accept length", graded(inspection.of("accept_course")) + legend + pictures)


def _server(findings: tuple[Finding, ...]) -> str:
    flags: dict[str, str] = next((finding.data["flags"] for finding in findings if finding.data.get("flags")), {})
    rows = [(f"--{name}", value) for name, value in flags.items()]
    shown = table(("flag", "value"), rows, "What the server was started with, as the log prints it") if rows else ""
    closed = f"<details><summary>Flags</summary>\n{shown}</details>\n" if shown else ""
    return section("The server", graded(findings) + closed)
