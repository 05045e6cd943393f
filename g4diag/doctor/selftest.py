"""Put every trap to the test: its invariant is broken once on sglang's own classes, and it must fire, and no other.

Each drive runs healthy first, under the same probes, and every trap must sleep through it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from g4diag import guard
from g4diag.discover import contributions
from g4diag.hooks.versions import installed
from g4diag.model.doctor import Selftest, SelftestRow
from g4diag.selftests.contract import Break
from g4diag.stack import releases
from g4diag.stack.drive import cpu
from g4diag.traps.contract import Trap

if TYPE_CHECKING:
    from g4diag.scenario.seen import Seen

PACKAGE = "g4diag.selftests"


def selftest() -> Selftest:
    """Every trap. CannotRunError without this sglang."""
    releases.require()
    cpu.prepare_environment()
    from g4diag.stack.live.selection import traps

    was_raising = guard.set_raising(True)
    try:
        return Selftest(tuple(_rows(traps())), installed())
    finally:
        guard.set_raising(was_raising)


def _rows(known: Mapping[str, Trap]) -> Iterator[SelftestRow]:
    """Free lists are looked at after each call."""
    from g4diag.scenario.seen import watching

    breaks = {row.name: row for row in contributions(PACKAGE, "SELFTEST")}
    with watching(stock_every=1) as seen:
        for name, trap in known.items():
            row = breaks.get(name)
            if row is None or row.error is not None:
                yield SelftestRow(name, error=row.error or "" if row else "nothing breaks it")
            else:
                yield put_to_the_test(row.value, trap.judges, seen)


def put_to_the_test(subject: Break, judges: type, seen: Seen) -> SelftestRow:
    """Drive it healthy, then broken. judges: the trap's views. What a drive raises is in the row."""
    from g4diag.patches.applying import applied

    start = time.perf_counter()
    row = SelftestRow(subject.name, subject.how, companions=subject.companions)
    try:
        _forget(seen)
        subject.drive(False)
        early, views, healthy = seen.fired(), len(seen.views), _count(seen, judges)
        _forget(seen)
        with applied(subject.faults):
            subject.drive(True)
    except Exception as error:
        return replace(row, error=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - start)
    return replace(
        row,
        fired=seen.fired(),
        early=early,
        checked=(healthy, _count(seen, judges)),
        vacuous=not (views if subject.unseen else healthy),
        seconds=time.perf_counter() - start,
    )


def _forget(seen: Seen) -> None:
    """Begin another run. `Seen.clear` also collects garbage, which would take longer than the drives do."""
    seen.views, seen.violations = [], []


def _count(seen: Seen, judges: type) -> int:
    return sum(isinstance(view, judges) for view in seen.views)
