"""A view that is another one but for some fields."""

from __future__ import annotations

from typing import Any, TypeVar

Made = TypeVar("Made")


def remade(view: Made, **changed: Any) -> Made:
    """As `dataclasses.replace`, for a frozen dataclass without slots of which many are made: in a third of its time, as
    fields are not set one by one. view: one that nobody has looked at, so that nothing was worked out of its fields.
    changed: fields, and attributes that `once` would work out of them."""
    made = object.__new__(type(view))
    vars(made).update(vars(view), **changed)
    return made
