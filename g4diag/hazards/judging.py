"""A deployment held against every hazard on file: the one judgement of `doctor` and `serve`."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from packaging.specifiers import SpecifierSet

from g4diag.checkup import HazardRow
from g4diag.discover import contributions
from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment


def hazards() -> dict[str, Hazard]:
    """Every hazard that imports, by name."""
    rows = contributions("g4diag.hazards", "HAZARD")
    return {row.value.name: row.value for row in rows if isinstance(row.value, Hazard)}


def judge(deployment: Deployment, patches: Collection[str] = ()) -> tuple[HazardRow, ...]:
    """The hazards this deployment holds, worst first. patches: those that will be on; a cure among them is named."""
    rows = sorted(_found(deployment, patches), key=lambda row: (not row.fatal, bool(row.cured_by), row.name))
    return tuple(rows)


def _found(deployment: Deployment, patches: Collection[str]) -> Iterator[HazardRow]:
    for hazard in hazards().values():
        if not SpecifierSet(hazard.releases).contains(deployment.sglang, prereleases=True):
            continue
        if (found := hazard.found(deployment)) is not None:
            yield HazardRow(
                name=hazard.name,
                severity=hazard.severity,
                found=found,
                why=hazard.why,
                reference=hazard.reference,
                cures=hazard.cures,
                cured_by=next((name for name in hazard.cures if name in patches), ""),
                instead=hazard.instead,
            )
