"""An inspection as one HTML file that opens offline: verdict, pictures and tables, with Plotly's script inside it once.

Nothing is fetched: a Content-Security-Policy allows the page's own two scripts by hash and no request at all.
Without scripts the verdict, the tables and the page tables as text remain.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from g4diag import __version__
from g4diag.errors import CannotRunError
from g4diag.model import Inspection
from g4diag.report.html.charts import charts
from g4diag.report.html.markup import as_json, escaped
from g4diag.report.html.sections import body

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="g4diag {version}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
<script type="application/json" id="charts">{charts}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def render(inspection: Inspection) -> str:
    """The page; the same inspection gives the same bytes. CannotRunError where plotly is not installed."""
    plotly, script = _plotly(), _own("page.js")
    # Plotly sets styles on the elements it draws, so style-src cannot be a hash; a style loads and runs nothing here.
    policy = (
        f"default-src 'none'; script-src {_hash(plotly)} {_hash(script)}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return _PAGE.format(
        policy=policy,
        version=__version__,
        title=escaped(f"{inspection.name}: {inspection.outcome} - g4diag inspect"),
        style=_own("page.css"),
        body=body(inspection),
        charts=as_json(
            [{"id": chart.id, "height": chart.height, "figure": chart.figure} for chart in charts(inspection)]
        ),
        plotly=plotly,
        script=script,
    )


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise CannotRunError("--html needs plotly, found none: pip install 'g4diag[html]'") from None
    source: str = get_plotlyjs()
    return source


def _own(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
