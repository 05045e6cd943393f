"""What every page of ours begins and ends with: its policy, its style, and nothing that is fetched."""

from __future__ import annotations

from importlib.resources import files

from g4diag import __version__
from g4diag.report.html.markup import escaped

_FRAME = """<!DOCTYPE html>
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
{body}</body>
</html>
"""


def framed(policy: str, title: str, body: str) -> str:
    """The page. policy: its Content-Security-Policy. title: plain text. body: HTML, with a line's end."""
    style = own("page.css")
    return _FRAME.format(policy=policy, version=__version__, title=escaped(title), style=style, body=body)


def own(name: str) -> str:
    """A file of this folder."""
    return (files(__package__) / name).read_text(encoding="utf-8")
