"""What is hooked or refused by itself, when traps are armed one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from g4diag.hooks.install import Hook
from g4diag.stack.probes.contract import Book


@dataclass(frozen=True)
class Part:
    """Something that is hooked or refused by itself. traps: name -> the view it judges, of which `hooks` makes those it
    is asked for; none for a part that others need. needs: names of those it needs."""

    name: str
    hooks: Callable[[frozenset[type]], list[Hook]]
    traps: Mapping[str, type] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


def of_book(book: Book, wanted: frozenset[type]) -> list[Hook]:
    """The same, whichever views are wanted of it."""
    return book.hooks()
