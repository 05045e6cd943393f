"""What several analyzers ask of the same incident is worked out once. Told by identity: incidents hold arrays, so they
are neither hashed nor compared.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_KEPT = 8


def once(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`function`, whose last few answers are kept while what it was asked about lives. Its arguments are positional and
    take weak references; an answer must not be changed."""
    kept: list[tuple[tuple[weakref.ref[object], ...], _R]] = []

    @functools.wraps(function)
    def asked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        kept[:] = [entry for entry in kept if all(ref() is not None for ref in entry[0])]
        for refs, answer in kept:
            if all(ref() is arg for ref, arg in zip(refs, args, strict=True)):
                return answer
        answer = function(*args, **kwargs)
        kept.append((tuple(map(weakref.ref, args)), answer))
        del kept[:-_KEPT]
        return answer

    return asked
