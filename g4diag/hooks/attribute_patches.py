"""Module attributes replaced by a stand-in and put back: for what no hook can wrap, such as a triton.jit kernel.

A wrapped kernel stops launching (`kernel[grid]`), so `hooks` refuses it; a stand-in that forwards everything is
bound in its place instead, at every `from x import f` alias too. Undone by identity: the very object returns.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from g4diag.errors import PatchRefused
from g4diag.guard import guard
from g4diag.hooks import on_demand
from g4diag.hooks.aliases import aliases_of

logger = logging.getLogger(__name__)

_LOCK = threading.RLock()
_on: list[_Seat] = []


@dataclass(frozen=True)
class Swap:
    """target: dotted path of a module attribute. stand_in: the object there -> what is bound in its place."""

    target: str
    stand_in: Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class _Seat:
    target: str
    module: ModuleType
    name: str
    original: Any
    ours: Any

    @property
    def found(self) -> Any:
        return vars(self.module).get(self.name)


class Swapped:
    """Swaps of one owner that are on. `undo()` is idempotent; as a context manager it undoes on exit."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._seats: list[_Seat] = []

    @property
    def targets(self) -> tuple[str, ...]:
        """Attributes swapped, in the order given."""
        return tuple(seat.target for seat in self._seats)

    def problems(self) -> list[str]:
        """Attributes that somebody rebound after us. Empty when intact."""
        return [
            f"{seat.target}: wanted our stand-in, found {seat.found!r} put there after it"
            for seat in self._seats
            if seat.found is not seat.ours
        ]

    def undo(self) -> None:
        """Bind the originals again, wherever a stand-in of ours is. Never raises in production."""
        with _LOCK:
            while self._seats:
                seat = self._seats.pop()
                _on.remove(seat)
                with guard(f"undoing {self.owner} on {seat.target}"):
                    if seat.found is not seat.ours:
                        logger.warning("g4diag: %s was rebound after us and is left as it is", seat.target)
                    _rebind(seat.ours, seat.original)

    def __enter__(self) -> Swapped:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()


def swap(owner: str, swaps: Sequence[Swap]) -> Swapped:
    """Swap every attribute or none. PatchRefused (wanted, found) for one that is not there."""
    swapped = Swapped(owner)
    with _LOCK:
        try:
            for each in swaps:
                seat = _seat(each)
                swapped._seats.append(seat)
                _on.append(seat)
                _rebind(seat.original, seat.ours)
        except BaseException:
            swapped.undo()
            raise
    return swapped


def _seat(each: Swap) -> _Seat:
    path, _, name = each.target.rpartition(".")
    try:
        module = importlib.import_module(path)
        on_demand.run(module)
    except Exception as error:
        raise PatchRefused(each.target, f"{path} to import", f"{type(error).__name__}: {error}") from error
    if name not in vars(module):
        raise PatchRefused(each.target, "an attribute of the module itself", "nothing of that name")
    original = vars(module)[name]
    if type(original).__module__ == "builtins":
        # Aliases are found by identity: a number or a string is shared with modules that mean another thing by it.
        raise PatchRefused(each.target, "an object of a class of its own", f"a {type(original).__name__}")
    if any(original is seat.ours for seat in _on):
        raise PatchRefused(each.target, "one stand-in at a time", f"another of ours, {original!r}")
    return _Seat(each.target, module, name, original, each.stand_in(original))


def _rebind(value: Any, other: Any) -> None:
    for module, name in aliases_of(value):
        setattr(module, name, other)
