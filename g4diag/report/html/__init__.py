"""An inspection as one HTML file that opens offline: verdict, pictures and tables, with Plotly's script inside it once.

Nothing is fetched: a Content-Security-Policy allows the page's own two scripts by hash and no request at all.
Without scripts the verdict, the tables and the page tables as text remain.
"""

from __future__ import annotations

import base64
import hashlib

from g4diag.errors import CannotRunError
from g4diag.model import Inspection
from g4diag.report.html.charts import charts
from g4diag.report.html.frame import framed, own
from g4diag.report.html.markup import as_json
from g4diag.report.html.sections import body

_BODY = """{body}
<script type="application/json" id="charts">{charts}</script>
<script>{plotly}</script>
<script>{script}</script>
"""


def render(inspection: Inspection) -> str:
    """The page; the same inspection gives the same bytes. CannotRunError where plotly is not installed."""
    plotly, script = _plotly(), own("page.js")
    # Plotly sets styles on the elements it draws, so style-src cannot be a hash; a style loads and runs nothing here.
    policy = (
        f"default-src 'none'; script-src {_hash(plotly)} {_hash(script)}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = _BODY.format(
        body=body(inspection),
        charts=as_json(
            [{"id": chart.id, "height": chart.height, "figure": chart.figure} for chart in charts(inspection)]
        ),
        plotly=plotly,
        script=script,
    )
    return framed(policy, f"{inspection.name}: {inspection.outcome} - g4diag inspect", page)


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise CannotRunError("--html needs plotly, found none: pip install 'g4diag[html]'") from None
    source: str = get_plotlyjs()
    return source


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
