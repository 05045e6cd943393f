"""Drive every injected fault and its twin on the installed release, and write what g4diag wrote of them."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from g4diag.dump.writer import write_dump
from g4diag.hooks.versions import version_of
from g4diag.model import Incident
from g4diag.scenario.measure import judge_all
from tests.injected.catalogue import FAULTS
from tests.injected.contract import Fault
from tests.injected.truth import FOLDER, Truth
from tests.injected.watching import Run, Watched, run, watched


def recorded(names: Collection[str]) -> Iterator[Truth]:
    """Of these faults, in order; the dumps are in FOLDER when one comes."""
    release = str(version_of("sglang"))
    with watched() as live:
        for name in names:
            broken, healthy = both(FAULTS[name], live)
            yield _written(FAULTS[name], release, broken, healthy)


def both(fault: Fault, live: Watched) -> tuple[Run, Run]:
    """(the broken run, the healthy one)."""
    with tempfile.TemporaryDirectory() as folder:
        broken = run(fault, Path(folder), True, live)
        return broken, run(fault, Path(folder), False, live, like=broken.bad)


def offline(incidents: Collection[Incident]) -> tuple[str, ...]:
    """Names of the traps that fire on what is in the files, sorted."""
    return tuple(sorted({bad.trap for each in incidents for view in each.views() for bad in judge_all(view)}))


def _written(fault: Fault, release: str, broken: Run, healthy: Run) -> Truth:
    stem, names = f"{fault.name}-{release}", []
    for i, (trap, incident) in enumerate(broken.incidents.items()):
        names.append(f"{stem}+{trap}.pt" if i else f"{stem}.pt")
        write_dump(incident, FOLDER / names[-1])
    (twin,) = healthy.incidents.values()
    write_dump(twin, FOLDER / f"{stem}-healthy.pt")
    return Truth(
        fault=fault.name,
        release=release,
        live=broken.fired,
        offline=offline(broken.incidents.values()),
        issue=fault.issue,
        the_cause=fault.cause,
        must_not=fault.must_not,
        threads=fault.threads,
        harmless=fault.harmless,
        judged=len(broken.views),
        dumps=tuple(names),
        healthy=f"{stem}-healthy.pt",
    )
