"""A reference is called with the arguments that the real function would have, however they come, and is not called with
those that it would refuse."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from g4diag.stack.drive.reference_kernel import bound

_LATE: list[int] = []


def plain(q: Any, /, k: Any, v: Any = 3, *, scale: Any = None, late: Any = _LATE) -> Any: ...


def open_ended(q: Any, *rest: Any, scale: Any = 1, **others: Any) -> Any: ...


CALLS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((1, 2), {}),
    ((1, 2, 4), {}),
    ((1, 2), {"v": 5}),
    ((1,), {"k": 2, "scale": 7}),
    ((1,), {"scale": 7, "k": 2}),
    ((1, 9), {"late": 8}),
)


@pytest.mark.parametrize("original", [plain, open_ended])
def test_arguments_are_those_that_the_original_would_have(original: Callable[..., Any]) -> None:
    """Each form of a call twice, with other values the second time."""
    seen: list[dict[str, Any]] = []
    call = bound(original, lambda **given: seen.append(given))
    calls = [*CALLS, *((tuple(value + 10 for value in args), kwargs) for args, kwargs in CALLS)]
    for args, kwargs in calls:
        call(*args, **kwargs)
        wanted = inspect.signature(original).bind(*args, **kwargs)
        wanted.apply_defaults()
        assert seen.pop() == dict(wanted.arguments)
    assert len(calls) == 12 and inspect.signature(call) == inspect.signature(original)


def test_a_default_is_the_original_s_own() -> None:
    seen: list[dict[str, Any]] = []
    call = bound(plain, lambda **given: seen.append(given))
    call(1, 2)
    call(3, 4)
    assert [given["late"] is _LATE for given in seen] == [True, True]


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2), {"k": 3}), ((1, 2, 3, 4), {}), ((), {"q": 1, "k": 2}), ((1, 2), {"x": 3})]
)
def test_what_the_original_would_refuse_is_refused_each_time(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    called = list[bool]()
    call = bound(plain, lambda **given: called.append(True))
    call(1, 2)
    for _ in range(2):
        with pytest.raises(TypeError):
            call(*args, **kwargs)
    assert called == [True]
