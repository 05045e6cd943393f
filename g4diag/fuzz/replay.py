"""Machines by name, and a shrunk program run again without Hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from g4diag.discover import contributions
from g4diag.errors import CannotRunError, unknown
from g4diag.fuzz.contract import Machine
from g4diag.fuzz.session import opened

PACKAGE = "g4diag.fuzz.machines"


def machines() -> dict[str, Machine]:
    """Every machine, by name. CannotRunError for one that does not import: a campaign must not lack it unseen."""
    rows = contributions(PACKAGE, "MACHINE")
    for row in rows:
        if row.error is not None:
            raise CannotRunError(f"machine {row.name} does not load: {row.error}")
    return {row.value.name: row.value for row in rows}


def selected(names: Sequence[str]) -> tuple[Machine, ...]:
    """The machines of these names, in that order; all of them for none. UsageError for an unknown one."""
    known = machines()
    for name in names:
        if name not in known:
            raise unknown("machine", name, known)
    return tuple(known[name] for name in dict.fromkeys(names or known))


@contextmanager
def replaying(name: str, faults: Sequence[str] = ()) -> Iterator[Any]:
    """A fresh machine in a session of its own, to be stepped by hand. Raises Broken where a claim breaks: at the
    step, or at the end."""
    (machine,) = selected([name])
    with opened(machine, faults):
        state = machine.drives()
        yield state
        state.holds()
        state.teardown()
