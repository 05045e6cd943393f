"""Two files side by side as one HTML page that opens offline and holds no script."""

from __future__ import annotations

from g4diag import __version__
from g4diag.model import Comparison, Likeness
from g4diag.report.html.frame import framed
from g4diag.report.html.markup import escaped, graded, section

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_BODY = """<header><p class="badge {badge}">{likeness}</p><p>{first} against {second}</p></header>
<main>
<h1>{headline}</h1>
{body}</main>
<footer><p>Made by g4diag {version}: {compared} values compared. Page ids and lengths, no KV bytes.</p></footer>
"""
_BADGE = {Likeness.SAME: "healthy", Likeness.DIFFER: "error", Likeness.NOT_COMPARABLE: "inconclusive"}


def render(comparison: Comparison) -> str:
    """The page; the first file's value stands before the second's. The same comparison gives the same bytes."""
    first, second = comparison.names
    subjects = dict.fromkeys(finding.subject for finding in comparison.findings)
    body = "".join(
        section(subject.replace("_", " ").capitalize(), graded(f for f in comparison.findings if f.subject == subject))
        for subject in subjects
    )
    headline = comparison.findings[0].text if comparison.findings else f"{comparison.compared} values, all the same"
    page = _BODY.format(
        version=__version__,
        badge=_BADGE[comparison.likeness],
        likeness=escaped(comparison.likeness),
        first=escaped(first),
        second=escaped(second),
        headline=escaped(headline),
        body=body,
        compared=comparison.compared,
    )
    return framed(_POLICY, f"{first} against {second}: {comparison.likeness} - g4diag diff", page)
