"""What every machine file declares: one upper-case MACHINE, plain data around a state machine class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import View

Sink = Callable[[View], None]
Books = Mapping[str, Any]


def no_probes(sink: Sink, books: Books) -> Sequence[Hook]:
    """For a machine that takes its views itself and hands them to `judge`."""
    return ()


@dataclass(frozen=True)
class Machine:
    """One subject under fuzzing. name: as typed. subject: the class of sglang's that is driven.

    drives: a FuzzMachine; its module must import without torch and sglang. goals: coverage counters a run must
    reach, or it is vacuous. release_goals: more of them, of what the installed release has and another has not.
    oracle: names of the traps that judge its views; each must judge some. probes: (sink, books) -> hooks that
    make the views. books: what is written down for them (`stack/probes`), new ones for each run and hooked apart;
    probes and the machine's session have them by name.
    page_sizes: each must have been used. steps: rules an example. surroundings: what must be there while it runs, such
    as reference kernels.
    """

    name: str
    subject: str
    drives: type[Any]
    goals: tuple[str, ...]
    oracle: tuple[str, ...]
    release_goals: Callable[[], tuple[str, ...]] = tuple
    probes: Callable[[Sink, Books], Sequence[Hook]] = no_probes
    books: Callable[[], Sequence[Any]] = tuple
    page_sizes: tuple[int, ...] = ()
    steps: int = 40
    surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every counter a run must reach: the goals, the release's, and each page size."""
        return (*self.goals, *self.release_goals(), *(page_size_counter(size) for size in self.page_sizes))


def page_size_counter(page_size: int) -> str:
    """The counter of examples with this page size."""
    return f"page_size_{page_size}"
