"""What a view works out once: `functools.cached_property` without the lock that Python 3.11 takes at a first look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class once(Generic[Value]):
    """`@once` over a method of a frozen dataclass without slots: an attribute that is there from the first look on. Two
    threads may both work it out: of a view that nobody changes they find the same."""

    def __init__(self, work: Callable[[Any], Value]) -> None:
        self._work, self._name = work, work.__name__
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, view: None, owner: type) -> once[Value]: ...

    @overload
    def __get__(self, view: Any, owner: type) -> Value: ...

    def __get__(self, view: Any, owner: type) -> Any:
        if view is None:
            return self
        value = vars(view)[self._name] = self._work(view)
        return value
