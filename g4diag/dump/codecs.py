"""Codecs of the dump format: each turns one kind of model value into plain values and back.

`pack` trusts its input: it comes from our own probes. `unpack` trusts nothing: it names the field, what was
wanted and what was found, in an UnsafeInputError. Arrays stay numpy on both sides; only the writer knows torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, NoReturn, Protocol

import numpy as np

from g4diag.errors import UnsafeInputError

INT64 = np.iinfo(np.int64)
INT32 = np.iinfo(np.int32)
MAX_TEXT = 4096
MAX_ITEMS = 1024
MAX_COLUMNS = 1 << 20
MAX_DEPTH = 8


@dataclass(frozen=True)
class At:
    """A place in the document. `widened` keeps one int64 copy of an int32 array that many fields share, so
    that a small file cannot ask for a large memory."""

    path: str = ""
    widened: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def of(self, name: str | int) -> At:
        """The place of a child, in the same document."""
        path = f"{self.path}[{name}]" if isinstance(name, int) else f"{self.path}.{name}".lstrip(".")
        return At(path, self.widened)

    def refuse(self, wanted: str, found: Any) -> NoReturn:
        """Raise the one-line refusal that holds both sides."""
        raise UnsafeInputError(f"{self.path or 'document'}: wanted {wanted}, found {describe(found)}")


def describe(value: Any) -> str:
    """A short description of any plain value or array, on one line, escapes neutralised by repr."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} tensor of shape {value.shape}"
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "...")
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    return "None" if value is None else f"{type(value).__name__} {value!r}"


class Codec(Protocol):
    """pack: model value -> plain value. unpack: plain value -> model value, or UnsafeInputError."""

    def pack(self, value: Any) -> Any: ...

    def unpack(self, raw: Any, at: At) -> Any: ...


@dataclass(frozen=True)
class Text:
    """A string, at most MAX_TEXT characters; longer ones are clipped when packed."""

    def pack(self, value: str) -> str:
        return str(value)[:MAX_TEXT]

    def unpack(self, raw: Any, at: At) -> str:
        if not isinstance(raw, str) or len(raw) > MAX_TEXT:
            at.refuse(f"a string of at most {MAX_TEXT} characters", raw)
        return raw


@dataclass(frozen=True)
class Word:
    """One of the values of a StrEnum, stored as its string."""

    of: type[StrEnum]

    def pack(self, value: StrEnum) -> str:
        return str(value)

    def unpack(self, raw: Any, at: At) -> StrEnum:
        words = [str(word) for word in self.of]
        if not isinstance(raw, str) or raw not in words:
            at.refuse(f"one of {words}", raw)
        return self.of(raw)


@dataclass(frozen=True)
class Int:
    """An integer in low .. high."""

    low: int = INT64.min
    high: int = INT64.max

    def pack(self, value: int) -> int:
        return int(value)

    def unpack(self, raw: Any, at: At) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.low <= raw <= self.high:
            at.refuse(f"an integer in {self.low} .. {self.high}", raw)
        return raw


@dataclass(frozen=True)
class Flag:
    """A bool."""

    def pack(self, value: bool) -> bool:
        return bool(value)

    def unpack(self, raw: Any, at: At) -> bool:
        if not isinstance(raw, bool):
            at.refuse("a bool", raw)
        return raw


@dataclass(frozen=True)
class Ints:
    """An integer array of `ndim` dimensions, read back as `dtype`; stored as int32 wherever the values fit."""

    ndim: int
    dtype: type[np.int32] | type[np.int64] = np.int64
    filled: bool = False

    def pack(self, value: Any) -> Any:
        array = np.ascontiguousarray(value)
        fits = not array.size or (int(array.min()) >= INT32.min and int(array.max()) <= INT32.max)
        return array.astype(np.int32 if fits else np.int64)

    def unpack(self, raw: Any, at: At) -> Any:
        wanted = f"an int32 or int64 tensor of {self.ndim} dimension(s)" + (", not empty" if self.filled else "")
        if not isinstance(raw, np.ndarray) or raw.ndim != self.ndim or raw.dtype not in (np.int32, np.int64):
            at.refuse(wanted, raw)
        if (self.filled and not raw.size) or max(raw.shape[1:], default=0) > MAX_COLUMNS:
            at.refuse(wanted, raw)
        if raw.dtype == self.dtype or self.dtype is np.int32:
            return raw
        kept = at.widened.get(id(raw))
        if kept is None:
            kept = at.widened[id(raw)] = (raw, raw.astype(np.int64))
        return kept[1]


@dataclass(frozen=True)
class Maybe:
    """None, or what `inner` takes."""

    inner: Codec

    def pack(self, value: Any) -> Any:
        return None if value is None else self.inner.pack(value)

    def unpack(self, raw: Any, at: At) -> Any:
        return None if raw is None else self.inner.unpack(raw, at)


@dataclass(frozen=True)
class Many:
    """A sequence of at most `limit` items; `kind` is the model's own container."""

    inner: Codec
    kind: type[tuple[Any, ...]] | type[list[Any]] = tuple
    limit: int = MAX_ITEMS

    def pack(self, value: Any) -> list[Any]:
        return [self.inner.pack(item) for item in value]

    def unpack(self, raw: Any, at: At) -> Any:
        if not isinstance(raw, list) or len(raw) > self.limit:
            at.refuse(f"a list of at most {self.limit}", raw)
        return self.kind(self.inner.unpack(item, at.of(i)) for i, item in enumerate(raw))


@dataclass(frozen=True)
class Each:
    """A tuple of fixed length, one codec an item, stored as a list."""

    inner: tuple[Codec, ...]

    def pack(self, value: Any) -> list[Any]:
        return [codec.pack(item) for codec, item in zip(self.inner, value, strict=True)]

    def unpack(self, raw: Any, at: At) -> tuple[Any, ...]:
        if not isinstance(raw, list) or len(raw) != len(self.inner):
            at.refuse(f"a list of {len(self.inner)}", raw)
        return tuple(codec.unpack(item, at.of(i)) for i, (codec, item) in enumerate(zip(self.inner, raw, strict=True)))


@dataclass(frozen=True)
class Named:
    """A dict from strings to what `inner` takes."""

    inner: Codec

    def pack(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {str(key)[:MAX_TEXT]: self.inner.pack(item) for key, item in value.items()}

    def unpack(self, raw: Any, at: At) -> dict[str, Any]:
        if not isinstance(raw, dict) or len(raw) > MAX_ITEMS or not all(isinstance(key, str) for key in raw):
            at.refuse(f"a dict of at most {MAX_ITEMS} named values", raw)
        return {Text().unpack(key, at): self.inner.unpack(item, at.of(describe(key))) for key, item in raw.items()}


@dataclass(frozen=True)
class Plain:
    """Nested plain values: None, bool, int of 64 bits, finite float, string, list, dict with string keys.

    Whatever else is packed becomes its repr: a writer inside a server does not fail for an odd context value.
    """

    depth: int = MAX_DEPTH

    def pack(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | np.integer) and INT64.min <= value <= INT64.max:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, dict | list | tuple) and self.depth > 0 and len(value) <= MAX_ITEMS:
            inner = Plain(self.depth - 1)
            return Named(inner).pack(value) if isinstance(value, dict) else [inner.pack(item) for item in value]
        return Text().pack(value if isinstance(value, str) else repr(value))

    def unpack(self, raw: Any, at: At) -> Any:
        if raw is None or isinstance(raw, bool):
            return raw
        if isinstance(raw, int):
            return Int().unpack(raw, at)
        if isinstance(raw, str):
            return Text().unpack(raw, at)
        if isinstance(raw, float) and math.isfinite(raw):
            return raw
        if isinstance(raw, dict | list) and self.depth > 0:
            # A shared list inside a shared list doubles at every level; depth and length bound one level each,
            # so spend from one purse for the whole document.
            purse = at.widened.setdefault(-1, ([0], None))[0]
            purse[0] += len(raw)
            if purse[0] > MAX_ITEMS * 16:
                at.refuse(f"at most {MAX_ITEMS * 16} plain values in all", raw)
            inner: Codec = Plain(self.depth - 1)
            return (Named(inner) if isinstance(raw, dict) else Many(inner, list)).unpack(raw, at)
        at.refuse(f"a plain value, at most {MAX_DEPTH} deep", raw)


@dataclass(frozen=True)
class Record:
    """A dataclass, stored as a dict. Unknown keys are ignored and a missing key takes the dataclass's default,
    so that a later release may add fields. check: raises through `at` where fields contradict each other."""

    of: type[Any]
    codecs: Mapping[str, Codec]
    check: Callable[[Any, At], None] = lambda value, at: None

    def pack(self, value: Any) -> dict[str, Any]:
        return {name: codec.pack(getattr(value, name)) for name, codec in self.codecs.items()}

    def unpack(self, raw: Any, at: At) -> Any:
        if not isinstance(raw, dict):
            at.refuse(f"a {self.of.__name__} record (dict)", raw)
        optional = {f.name for f in fields(self.of) if f.default is not MISSING or f.default_factory is not MISSING}
        values = {}
        for name, codec in self.codecs.items():
            if name in raw:
                values[name] = codec.unpack(raw[name], at.of(name))
            elif name not in optional:
                at.of(name).refuse("this field", None)
        made = self.of(**values)
        self.check(made, at)
        return made


@dataclass(frozen=True)
class Tagged:
    """A record of one of several kinds, told by its class's KIND. A kind that this g4diag does not know is refused."""

    of: Mapping[str, Record]

    def pack(self, value: Any) -> dict[str, Any]:
        return {"kind": value.KIND, **self.of[value.KIND].pack(value)}

    def unpack(self, raw: Any, at: At) -> Any:
        kind = raw.get("kind") if isinstance(raw, dict) else None
        if not isinstance(kind, str) or kind not in self.of:
            at.refuse(f"a record whose kind is one of {', '.join(self.of) or 'none'}", raw)
        return self.of[kind].unpack(raw, at)
