"""What every shape file declares: one upper-case SHAPE, plain data around a pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from g4diag.model import Incident


@dataclass(frozen=True)
class Shape:
    """name: the fact's key in known_issues.toml. values: every word it may give, and what each means. of: the view
    class it looks at. told: (a view that breaks a claim, its incident) -> one of the words, "" if none fits."""

    name: str
    values: dict[str, str]
    of: type
    told: Callable[[Any, Incident], str]
