"""Two files side by side as one HTML page that opens offline and holds no script."""

from __future__ import annotations

from importlib.resources import files

from g4diag import __version__
from g4diag.model import Comparison, Likeness
from g4diag.report.html.markup import escaped, graded, section

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="g4diag {version}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header><p class="badge {badge}">{likeness}</p><p>{first} against {second}</p></header>
<main>
<h1>{headline}</h1>
{body}</main>
<footer><p>Made by g4diag {version}: {compared} values compared. Page ids and lengths, no KV bytes.</p></footer>
</body>
</html>
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
    return _PAGE.format(
        version=__version__,
        title=escaped(f"{first} against {second}: {comparison.likeness} - g4diag diff"),
        style=(files(__package__) / "page.css").read_text(encoding="utf-8"),
        badge=_BADGE[comparison.likeness],
        likeness=escaped(comparison.likeness),
        first=escaped(first),
        second=escaped(second),
        headline=escaped(headline),
        body=body,
        compared=comparison.compared,
    )
