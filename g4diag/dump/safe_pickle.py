"""Read a torch file's plain values without unpickling: a stack machine for the few opcodes torch.save writes.

`torch.load(weights_only=True)` would do in principle, but it imports torch (seconds, and a laptop may lack
it) and its checks differ by release. Here a global is only ever a name looked up in a table of inert markers,
REDUCE knows two cases, and there is no opcode that could build an object.
"""

from __future__ import annotations

import json
import pickletools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from g4diag.dump.torch_zip import in_words, read_entries
from g4diag.errors import UnsafeInputError

MAX_OPCODES = 1_000_000
MAX_PICKLE_BYTES = 16 << 20
MAX_LONG_BYTES = 9

_DTYPES = {
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
}
_MARKERS = {f"torch {name}" for name in _DTYPES} | {
    "torch._utils _rebuild_tensor_v2",
    "collections OrderedDict",
    "torch Size",
}


@dataclass(frozen=True)
class Global:
    """A name that the file mentions; inert."""

    name: str


class _Mark:
    """The MARK of the pickle stack."""


_MARK = _Mark()


def parse_plain(raw: bytes) -> dict[str, Any]:
    """The top-level dict of a torch file: plain values, read-only numpy arrays where it holds tensors.

    Raises UnsafeInputError for all that is wrong with it.
    """
    entries = read_entries(raw)
    program = entries["data.pkl"]
    if len(program) > MAX_PICKLE_BYTES:
        raise UnsafeInputError(f"data.pkl: wanted at most {MAX_PICKLE_BYTES} bytes, found {len(program)}")
    try:
        value = Machine(entries).run(program)
    except UnsafeInputError:
        raise
    except Exception as error:
        # A broken program fails somewhere inside the machine or genops: stack underflow, bad memo, bad utf-8.
        raise UnsafeInputError(f"data.pkl: malformed program: {in_words(error)}") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UnsafeInputError("data.pkl: wanted a dict with string keys, found something else")
    return value


def parse_json(raw: bytes | str) -> Any:
    """The JSON document in `raw`. UnsafeInputError for what is none, and for a name given twice in one object, of
    which every reader takes another one."""
    try:
        return json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        said = str(error) if type(error) in (ValueError, json.JSONDecodeError) else in_words(error)
        raise UnsafeInputError(f"not JSON: {said}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return made


@dataclass
class Machine:
    """A pickle program's stack and memo, for opcodes that only build plain values. entries: of the archive, by name."""

    entries: dict[str, bytes]
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, program: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
            if count > MAX_OPCODES:
                raise UnsafeInputError(f"data.pkl: wanted at most {MAX_OPCODES} opcodes, found more")
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise UnsafeInputError("data.pkl: truncated")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO":
                pass
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "BINFLOAT":
                stack.append(argument)
            case "LONG1":
                if argument.bit_length() > 8 * MAX_LONG_BYTES:
                    raise UnsafeInputError(f"data.pkl: an integer of {argument.bit_length()} bits")
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE" | "MARK":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": (), "MARK": _MARK}[name])
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "TUPLE":
                stack.append(tuple(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                self.fill(name)
            case "GLOBAL":
                stack.append(_known_global(argument))
            case "BINPERSID":
                stack.append(self.storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_reduce(function, arguments))
            case _:
                raise UnsafeInputError(f"data.pkl: opcode {name} is not one that a plain dict of tensors needs")

    def since_mark(self) -> list[Any]:
        last = len(self.stack) - 1
        start = next(i for i in range(last, -1, -1) if self.stack[i] is _MARK)
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def fill(self, name: str) -> None:
        wanted = 1 if name == "APPEND" else 2
        items = self.since_mark() if name.endswith("S") else [self.stack.pop() for _ in range(wanted)][::-1]
        target = self.stack[-1]
        if name.startswith("APPEND") and isinstance(target, list):
            target.extend(items)
        elif name.startswith("SETITEM") and isinstance(target, dict) and len(items) % 2 == 0:
            # Only strings are hashed with a secret: other keys can be made to collide, or to nest past the C stack.
            if not all(type(key) is str for key in items[::2]):
                raise UnsafeInputError("data.pkl: a dict whose keys are not all strings")
            target.update(zip(items[::2], items[1::2], strict=True))
        else:
            raise UnsafeInputError(f"data.pkl: {name} on a {type(target).__name__}")

    def storage(self, reference: Any) -> Any:
        """The flat read-only array of a persistent id ('storage', type, key, location, count)."""
        if not isinstance(reference, tuple) or [type(part) for part in reference] != [str, Global, str, str, int]:
            raise UnsafeInputError("data.pkl: a persistent id that is not a tensor storage")
        tag, kind, key, _location, count = reference
        if tag != "storage" or not re.fullmatch(r"[0-9]{1,9}", key):
            raise UnsafeInputError("data.pkl: a persistent id that is not a tensor storage")
        name = kind.name.removeprefix("torch ")
        if name not in _DTYPES:
            raise UnsafeInputError(f"data.pkl: a storage of unknown type {name[:80]!r}")
        data = self.entries.get(f"data/{key}")
        order = ">" if self.entries.get("byteorder") == b"big" else "<"
        dtype = np.dtype(order + _DTYPES[name])
        if data is None or len(data) != count * dtype.itemsize:
            found = "no such entry" if data is None else f"{len(data)} bytes"
            raise UnsafeInputError(f"data/{key}: wanted {count} items of {name}, found {found}")
        flat = np.frombuffer(data, dtype=dtype).astype(dtype.newbyteorder("="), copy=False)
        return flat != 0 if name == "BoolStorage" else flat


def _known_global(argument: str) -> Global:
    if argument not in _MARKERS:
        dotted = ".".join(argument[:80].split(" ", 1))
        raise UnsafeInputError(f"data.pkl: it names {dotted!r}, which a plain dict of tensors never needs; not loaded")
    return Global(argument)


def _reduce(function: Any, arguments: Any) -> Any:
    if isinstance(function, Global) and isinstance(arguments, tuple):
        if function.name == "torch._utils _rebuild_tensor_v2":
            return tensor_view(*arguments[:4])
        if function.name == "collections OrderedDict" and not arguments:
            return {}
        if function.name == "torch Size" and len(arguments) == 1 and isinstance(arguments[0], tuple):
            return list(arguments[0])
    raise UnsafeInputError("data.pkl: a call that is not a tensor's")


def tensor_view(flat: Any, offset: Any, shape: Any, strides: Any) -> Any:
    """A view of `flat`. The bounds are checked here: as_strided itself checks nothing."""
    numbers = (offset, *shape, *strides)
    sane = len(shape) <= 8 and all(type(n) is int and 0 <= n < 1 << 40 for n in numbers)
    if not isinstance(flat, np.ndarray) or not sane:
        raise UnsafeInputError("data.pkl: a tensor with an impossible offset, shape or stride")
    elements = 1
    for size in shape:
        elements *= size
    reach = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if elements and (reach >= flat.size or elements > flat.size):
        raise UnsafeInputError(f"data.pkl: a tensor of shape {tuple(shape)} in a storage of {flat.size} items")
    if not elements:
        return np.empty(shape, flat.dtype)
    return np.lib.stride_tricks.as_strided(
        flat[offset:], tuple(shape), [stride * flat.itemsize for stride in strides], writeable=False
    )
