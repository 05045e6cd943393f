"""Dataclasses of plain fields to JSON values and back: generic, so that a new field of a finding crosses by itself.

The child is not trusted to answer well, since it has read what nobody trusts: on the way back every field is checked
against its annotation.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from functools import cache
from typing import Any

from g4diag.errors import UnsafeInputError


def to_plain(value: Any) -> Any:
    """`value` with dicts for dataclasses, lists for tuples and strings for enums."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def from_plain(kind: Any, raw: Any, at: str = "answer") -> Any:
    """The value of type `kind` that `to_plain` made `raw` from. UnsafeInputError naming the field that does not fit."""
    if kind is Any:
        return raw
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        fitting = (inner for inner in arguments if (raw is None) == (inner is type(None)))
        return from_plain(next(fitting, type(None)), raw, at)
    if origin is tuple and isinstance(raw, list):
        return _tuple(arguments, raw, at)
    if origin is list and isinstance(raw, list):
        return [from_plain(arguments[0], item, f"{at}[{i}]") for i, item in enumerate(raw)]
    if origin is dict and isinstance(raw, dict):
        return {key: from_plain(arguments[1], item, f"{at}.{key}") for key, item in raw.items()}
    if dataclasses.is_dataclass(kind) and isinstance(raw, dict):
        return _record(kind, raw, at)
    if isinstance(kind, type) and issubclass(kind, Enum) and raw in [str(member) for member in kind]:
        return kind(raw)
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is kind:
        return raw
    raise UnsafeInputError(f"{at}: wanted {kind}, found a {type(raw).__name__}")


def _tuple(arguments: tuple[Any, ...], raw: list[Any], at: str) -> tuple[Any, ...]:
    if arguments[1:] == (...,):
        arguments = arguments[:1] * len(raw)
    if len(arguments) != len(raw):
        raise UnsafeInputError(f"{at}: wanted {len(arguments)} items, found {len(raw)}")
    return tuple(
        from_plain(kind, item, f"{at}[{i}]") for i, (kind, item) in enumerate(zip(arguments, raw, strict=True))
    )


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Of the fields of a dataclass. Evaluating annotations is most of what an answer of thousands of records costs."""
    return typing.get_type_hints(kind)


def _record(kind: Any, raw: dict[str, Any], at: str) -> Any:
    kinds = _hints(kind)
    if set(raw) != {field.name for field in dataclasses.fields(kind)}:
        raise UnsafeInputError(f"{at}: wanted the fields of {kind.__name__}, found {sorted(raw)[:20]}")
    return kind(**{name: from_plain(kinds[name], item, f"{at}.{name}") for name, item in raw.items()})
