"""What hooks do to one call: kinds, and several of them composed into one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from g4diag.guard import guard
from g4diag.hooks.targets import Function

Kind = Literal["before", "after", "around", "replace"]


@dataclass(frozen=True)
class Hook:
    """target: dotted path of a function or method. function, by kind, as in sglang's registry:

    before: fn(*args, **kwargs) -> None, or (args, kwargs) to change them. Its errors are guarded.
    after: fn(result, *args, **kwargs) -> None, or a new result. Not called when the original raised. Guarded.
    around: fn(original, *args, **kwargs) -> result. Calls `original` once; its errors reach the caller.
    replace: fn(*args, **kwargs) -> result. Innermost, whatever the order of installation; the last one wins.

    observes: a probe. Outermost, whatever the order of installation, so that it sees what patches leave.
    parameters: names that the target's leading parameters must have, self left out; () for any. A function that was
    found by its name and takes other arguments is refused: a hook that unpacks the wrong ones would be blind.
    """

    target: str
    kind: Kind
    function: Function
    observes: bool = False
    parameters: tuple[str, ...] = ()

    @property
    def layer(self) -> int:
        """0 innermost: replacements; 1: changes; 2: probes."""
        return 0 if self.kind == "replace" else 2 if self.observes else 1


@dataclass(frozen=True, eq=False)
class Entry:
    """One hook of one owner. Compared by identity: an owner may install the same hook twice."""

    owner: str
    hook: Hook


def compose(original: Function, entries: Sequence[Entry]) -> Function:
    """`original` under all entries, the last outermost within its layer; replacements innermost, as in sglang's
    registry, and probes outermost."""
    call = original
    for entry in sorted(entries, key=lambda entry: entry.hook.layer):
        call = BINDERS[entry.hook.kind](entry, call)
    return call


def _bind_before(entry: Entry, inner: Function) -> Function:
    function, safely = entry.hook.function, guard(f"{entry.owner} before {entry.hook.target}")

    def call(*args: Any, **kwargs: Any) -> Any:
        changed = None
        try:
            changed = function(*args, **kwargs)
        except Exception as error:
            if not safely.swallows(error):
                raise
        if changed is not None:
            args, kwargs = changed
        return inner(*args, **kwargs)

    return call


def _bind_after(entry: Entry, inner: Function) -> Function:
    function, safely = entry.hook.function, guard(f"{entry.owner} after {entry.hook.target}")

    def call(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        changed = None
        try:
            changed = function(result, *args, **kwargs)
        except Exception as error:
            if not safely.swallows(error):
                raise
        return result if changed is None else changed

    return call


def _bind_around(entry: Entry, inner: Function) -> Function:
    function = entry.hook.function

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(inner, *args, **kwargs)

    return call


def _bind_replace(entry: Entry, inner: Function) -> Function:
    return entry.hook.function


BINDERS: dict[str, Callable[[Entry, Function], Function]] = {
    "before": _bind_before,
    "after": _bind_after,
    "around": _bind_around,
    "replace": _bind_replace,
}
