"""A row of a page table as one line of signs, cut to a width that survives a pipe. Formats; computes nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH = 64


def bad_strips(picture: dict[str, Any], limit: int, width: int = WIDTH) -> list[tuple[str, str]]:
    """(row, signs) of the first `limit` rows with a wrong entry, of a table_map finding's data.

    Where a row has more signs than `width`, the worst of each bucket stands for it."""
    legend = list(picture["legend"])
    tall = picture["rows_a_cell"]
    found = []
    for index, signs in enumerate(picture["rows"]):
        if any(sign in signs for sign in bad_signs(picture)):
            row = str(index * tall) if tall == 1 else f"{index * tall}..{index * tall + tall - 1}"
            found.append((row, squeeze(signs, legend, width)))
    return found[:limit]


def bad_signs(picture: dict[str, Any]) -> Sequence[str]:
    """The signs of wrong entries: those after the first three of the legend, which runs from harmless to worst."""
    return list(picture["legend"])[3:]


def squeeze(signs: str, legend: Sequence[str], width: int) -> str:
    """At most `width` signs, the worst of each bucket."""
    each = max(-(-len(signs) // width), 1)
    return "".join(max(signs[at : at + each], key=legend.index) for at in range(0, len(signs), each))


def legend_line(picture: dict[str, Any], shown: Sequence[str]) -> str:
    """What the signs that occur mean."""
    used = set("".join(shown))
    return "   ".join(f"{sign} {name}" for sign, name in picture["legend"].items() if sign in used)
