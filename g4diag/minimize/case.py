"""Run one state of a scenario at given sizes, in this process, and say how it breaks: what an emitted test calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from g4diag.errors import CannotRunError, unknown
from g4diag.model import Severity, Violation
from g4diag.model.reduction import Case, Sizes
from g4diag.scenario.catalogue import scenarios
from g4diag.signature import signature
from g4diag.verdict import verdict_line

if TYPE_CHECKING:
    from g4diag.scenario import Scenario, State
    from g4diag.scenario.measure import Measured

Runner = Callable[["State", Sizes, int, str], Case]


def run_case(scenario: str, state: str, sizes: Sizes, *, seed: int = 0, until: str = "") -> Case:
    """Serve under one state on sglang's own classes, on the CPU. sizes: keywords of `Geometry`. until: a signature;
    the run ends at the first violation that has it.

    Raises UsageError for an unknown name or sizes that cannot be served, CannotRunError without this sglang, and
    whatever sglang raises while it serves.
    """
    (chosen,) = served(scenario).selected((state,))
    with running() as run:
        return run(chosen, sizes, seed, until)


def served(name: str) -> Scenario:
    """The scenario of that name. UsageError: unknown. CannotRunError: it serves no requests on the CPU."""
    known = scenarios()
    if name not in known:
        raise unknown("scenario", name, known)
    if not known[name].states:
        how = "drives single classes" if "cpu" in known[name].needs else "runs on a GPU only"
        raise CannotRunError(f"{name}: wanted a scenario that serves requests on the CPU, found one that {how}")
    return known[name]


@contextmanager
def running() -> Iterator[Runner]:
    """A runner, with the process set up and the probes hooked once for the body."""
    from g4diag.stack import releases

    releases.require()
    from g4diag.stack.drive import cpu

    cpu.prepare_environment()
    from g4diag.scenario.measure import measure, probed
    from g4diag.stack.drive.serving import Geometry

    with probed() as probes:

        def run(state: State, sizes: Sizes, seed: int, until: str) -> Case:
            geometry = Geometry(**sizes)  # type: ignore[arg-type]
            geometry.check()
            stop = None if not until else lambda violation: signature(violation) == until
            return _case(measure(state, geometry, seed, probes, until=stop), until)

        yield run


def _case(measured: Measured, wanted: str) -> Case:
    first = next((v for v in measured.violations if signature(v) == wanted), None) or _leading(measured)
    return Case(
        signature="" if first is None else signature(first),
        line="" if first is None else verdict_line(first),
        traps=tuple(sorted({violation.trap for violation in measured.violations})),
        step=None if first is None else first.step,
        checked=sum(reading.checked for reading in measured.readings),
        divergent=sum(reading.divergent for reading in measured.readings),
        error=next((reading.error for reading in measured.readings if reading.error), ""),
    )


def _leading(measured: Measured) -> Violation | None:
    """The violation that `g4diag inspect` would put first. Without a bad read, and so without an incident, the first
    error."""
    from g4diag.analyzers.causes import headline

    if measured.incident is not None and (first := headline(measured.incident)) is not None:
        return first.violation
    return min(measured.violations, key=lambda violation: violation.severity is not Severity.ERROR, default=None)
