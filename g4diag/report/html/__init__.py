"""An inspection as one HTML file that opens offline: verdict, pictures and tables, with what draws the pictures inside
it once, where there are any.

That is plotly.js, of which the bundle for such charts lies beside this file, packed. Nothing is fetched: a
Content-Security-Policy allows the page's own two scripts by hash and no request at all. Without scripts the verdict,
the tables and the page tables as text remain.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from importlib.resources import files

from g4diag.model import Inspection
from g4diag.report.html.charts import charts
from g4diag.report.html.frame import framed, own
from g4diag.report.html.markup import as_json
from g4diag.report.html.sections import body

PLOTLY = "plotly-cartesian.min.js.gz"
_DRAWN = """<script type="application/json" id="charts">{charts}</script>
<script type="text/plain" id="plotly">{plotly}</script>
<script>{script}</script>
"""


def render(inspection: Inspection) -> str:
    """The page; the same inspection gives the same bytes."""
    scripts, drawn = "", ""
    if pictures := charts(inspection):
        packed, script = (files(__package__) / PLOTLY).read_bytes(), own("page.js")
        scripts = f"script-src {_hash(gzip.decompress(packed))} {_hash(script.encode())}; "
        drawn = _DRAWN.format(
            charts=as_json([{"id": each.id, "height": each.height, "figure": each.figure} for each in pictures]),
            plotly=base64.b64encode(packed).decode(),
            script=script,
        )
    # Plotly sets styles on the elements it draws, so style-src cannot be a hash; a style loads and runs nothing here.
    policy = (
        f"default-src 'none'; {scripts}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return framed(policy, f"{inspection.name}: {inspection.outcome} - g4diag inspect", f"{body(inspection)}\n{drawn}")


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
