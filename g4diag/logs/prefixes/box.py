"""Boxes around tracebacks: rich's `│ ... │`, and the `  | ` of an exception group."""

from __future__ import annotations

import re

from g4diag.logs.contract import Mark, Prefix

_SIDE = re.compile(r"[│┃║] ?")
_GROUP = re.compile(r" {2,40}\| ?(?=\S| {2,})|^ {2,40}\+ (?=Exception Group Traceback)")


def take(text: str) -> tuple[Mark, str] | None:
    """What stands inside."""
    if found := _SIDE.match(text):
        inside = text[found.end() :].rstrip()
        return Mark(), inside[:-1].rstrip() if inside.endswith(("│", "┃", "║")) else inside
    found = _GROUP.match(text)
    return (Mark(), text[found.end() :]) if found else None


PREFIX = Prefix("box", take, " │┃║")
