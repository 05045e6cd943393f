"""Which states of a scenario apply to the installed release, and what is expected of them there: by text anchors, never
by a version string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from g4diag.errors import CannotRunError, TooEarlyError, VacuousError
from g4diag.hooks.anchors import Anchor, pin
from g4diag.patches.applying import patches
from g4diag.patches.contract import fit, unmatched
from g4diag.scenario import Drive, LeftOut, Line, Scenario, State
from g4diag.scenario.standing import PATHS

_S = TypeVar("_S", State, Drive)


def applicable(scenario: str, states: Iterable[_S]) -> tuple[tuple[_S, ...], tuple[LeftOut, ...]]:
    """The states that apply, each with the outcome that is expected of it here, and those that do not. VacuousError if
    none applies."""
    fitting, left_out = list[_S](), list[LeftOut]()
    for state in states:
        if why := _misfit(state):
            left_out.append(LeftOut(state.name, why))
        else:
            fitting.append(_here(state))
    if not fitting:
        told = "; ".join(f"{each.state}: {each.why}" for each in left_out)
        raise VacuousError(f"{scenario}: vacuous: no state applies here: {told}")
    return tuple(fitting), tuple(left_out)


def too_early(scenario: Scenario) -> str:
    """What says that the installed release is older than the code that the bug came with; "" if nothing does."""
    for target, text in filter(_there, scenario.before):
        return f"{text!r} is still in {target}"
    return missing(scenario.since)


@contextmanager
def as_old_as_it_is(scenario: Scenario) -> Iterator[None]:
    """For the body, TooEarlyError where CannotRunError is raised and the release is older than the bug's code."""
    try:
        yield
    except CannotRunError as error:
        if early := too_early(scenario):
            raise TooEarlyError(f"{scenario.name}: not there yet: {early}; {error}") from error
        raise


def missing(lines: Iterable[Line]) -> str:
    """The first line that is not in the installed source exactly once, wanted and found; "" if all are."""
    for target, text in lines:
        if not (found := pin(Anchor(target, text))).matched:
            return f"wanted {text!r} once in {target}, found {found.why}"
    return ""


def _there(line: Line) -> bool:
    return pin(Anchor(*line)).count > 0


def _misfit(state: State | Drive) -> str:
    known = patches()
    for name in state.patches:
        lacks = unmatched(known[name]) or fit(known[name])
        if not lacks.can_apply:
            return f"patch {name}, wanted {lacks.wanted}, found {lacks.found}"
    return missing(state.lines) if isinstance(state, Drive) else ""


def _here(state: _S) -> _S:
    expected = dict[str, str]()
    for where in state.where:
        if not missing(where.lines) and not any(map(_there, where.without)):
            for path in [where.path] if where.path else PATHS:
                expected.setdefault(path, where.outcome)
    return state.expecting(expected)
