"""Evidence into HTML and into a script element, harmless in both."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from g4diag.model import Finding
from g4diag.report.plain import plain


def escaped(text: object) -> str:
    """As text or as an attribute's value; control and bidi characters are written as escapes."""
    return html.escape(plain(str(text)), quote=True)


def as_json(value: Any) -> str:
    """For a script element: ASCII, and without the characters that could end the element or open a comment."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def prose(text: object) -> str:
    """Escaped, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escaped(text))


def section(title: str, inside: str) -> str:
    """A card with its heading; nothing where there is nothing to say."""
    return f"<section>\n<h2>{escaped(title)}</h2>\n{inside}</section>\n" if inside else ""


def graded(findings: Iterable[Finding]) -> str:
    """One line a finding, with how it is known in front."""
    lines = "".join(
        f'<li><span class="grade {escaped(finding.grade)}">{escaped(finding.grade)}</span>'
        f"<span>{prose(finding.text)}</span></li>\n"
        for finding in findings
    )
    return f'<ul class="graded">\n{lines}</ul>\n' if lines else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str, numeric: Sequence[int] = ()) -> str:
    """A table that scrolls in its own box. numeric: columns of numbers."""
    of_column = ["num" if n in numeric else "" for n in range(len(columns))]
    head = "".join(f'<th scope="col" class="{of_column[n]}">{escaped(name)}</th>' for n, name in enumerate(columns))
    lines = "".join(
        "<tr>"
        + "".join(
            f'<td class="{_width(of_column[n], cell)}" data-name="{escaped(columns[n])}">{_cell(cell)}</td>'
            for n, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(caption)}"><table>'
        f'<caption class="unseen">{escaped(caption)}</caption><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{lines}</tbody></table></div>\n"
    )


def _width(of_column: str, value: object) -> str:
    return of_column or ("wide" if len(str(value)) > 40 else "")


def _cell(value: object) -> str:
    return "&ndash;" if value is None or value == "" else escaped(value)
