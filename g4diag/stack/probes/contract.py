"""What every probe file declares: one upper-case PROBE, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from g4diag.discover import contributions
from g4diag.hooks.install import Hook

if TYPE_CHECKING:
    from g4diag.stack.probes.workers import Backends

PACKAGE, CONSTANT = "g4diag.stack.probes", "PROBE"


def _row_named(row: int) -> str:
    return f"row{row}"


def _no_step() -> int:
    return 0


class Book(Protocol):
    """What is written down when it happens, for views that are made later. name: as a trap's `remembers` has it."""

    name: str

    def hooks(self) -> list[Hook]: ...


class Hooked(Protocol):
    """A probe that was made. One that puts work off has also `catch_up(idle)`, which does it."""

    def hooks(self) -> list[Hook]: ...


@dataclass(frozen=True)
class Context:
    """What probes share. workers: which worker each backend serves. sink: takes each view. rid_of: request row -> rid.
    step_of: the current step. stock_every: calls on an allocator between two copies of its free list. keeps: whether an
    allocator that is given up stays until its free list was looked at."""

    workers: Backends
    sink: Callable[[Any], None]
    rid_of: Callable[[int], str] = _row_named
    step_of: Callable[[], int] = _no_step
    stock_every: int = 256
    keeps: bool = False


@dataclass(frozen=True)
class Probe:
    """One kind of view, or several that come of the same hooks. name: the module's. views: the classes it makes.
    make: from what probes share, and which of its views are wanted. of_backends: its views need to know which worker a
    backend serves, so the hooks of `Context.workers` go with it."""

    name: str
    views: frozenset[type]
    make: Callable[[Context, frozenset[type]], Hooked]
    of_backends: bool = True


def probes() -> tuple[Probe, ...]:
    """Every probe that imports, by name."""
    rows = contributions(PACKAGE, CONSTANT)
    return tuple(row.value for row in rows if isinstance(row.value, Probe))


def made(context: Context, wanted: frozenset[type] | None = None) -> list[Hooked]:
    """The probes that make any of the wanted views, None for all; the workers and their books first, where one of them
    needs them."""
    chosen = [probe for probe in probes() if wanted is None or probe.views & wanted]
    needs_workers = any(probe.of_backends for probe in chosen)
    first: list[Hooked] = [context.workers, *context.workers.books] if needs_workers else []
    return [*first, *(probe.make(context, probe.views if wanted is None else probe.views & wanted) for probe in chosen)]
