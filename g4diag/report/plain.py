"""Make text from a file harmless on a terminal."""

from __future__ import annotations

import unicodedata

# Control, format (bidi overrides, zero width), surrogate, private use, line and paragraph separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(text: str) -> str:
    """`text` on one line with every character that a terminal acts on, or hides, written as an escape.

    Markup of rich needs nothing here: the reports hand rich Text objects, which are never parsed."""
    return "".join(_escaped(char) if unicodedata.category(char) in _HIDDEN else char for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
