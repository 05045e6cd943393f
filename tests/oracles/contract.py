"""What every oracle is: (finding, incident) -> what is false in the finding, as sentences; none if all is true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from g4diag.model import Finding, Incident

Oracle = Callable[[Finding, Incident], Iterator[str]]


def differ(data: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    """Each value that is not what the arrays give."""
    for key, value in wanted.items():
        if key not in data:
            yield f"{key} is not in the data"
        elif data[key] != value or type(data[key]) is not type(value):
            yield f"{key} is {data[key]!r}, the arrays give {value!r}"


def says(text: str, phrases: dict[str, bool]) -> Iterator[str]:
    """Each phrase that is said and not so, or not said though it is so."""
    for phrase, is_so in phrases.items():
        if (phrase in text) is not is_so:
            yield f"{phrase!r} is {'not ' * is_so}said"
