"""A deployment held against every hazard on file: the one judgement of `doctor` and `serve`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from g4diag.discover import contributions
from g4diag.hazards.command_line import parse
from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment
from g4diag.model.doctor import HazardRow


def hazards() -> dict[str, Hazard]:
    """Every hazard that imports, by name."""
    rows = contributions("g4diag.hazards", "HAZARD")
    return {row.value.name: row.value for row in rows if isinstance(row.value, Hazard)}


def judge(deployment: Deployment, patches: Collection[str] = ()) -> tuple[HazardRow, ...]:
    """The hazards this deployment holds, worst first. patches: those that will be on; a cure among them is named."""
    rows = sorted(_found(deployment, patches), key=lambda row: (not row.fatal, bool(row.cured_by), row.name))
    return tuple(rows)


def possible(deployment: Deployment, patches: Collection[str] = ()) -> tuple[HazardRow, ...]:
    """The hazards that it holds besides if a model whose config.json is not here is what its name says, a Gemma-4. None
    where every config.json was read, or no name says so."""
    said = deployment.as_named()
    known = {row.name for row in judge(deployment, patches)}
    return () if said is None else tuple(row for row in judge(said, patches) if row.name not in known)


def _found(deployment: Deployment, patches: Collection[str]) -> Iterator[HazardRow]:
    for hazard in hazards().values():
        if (found := _held(hazard, deployment)) is not None:
            yield HazardRow(
                name=hazard.name,
                severity=hazard.severity,
                found=found,
                why=hazard.why,
                reference=hazard.reference,
                cures=_cures(hazard, deployment),
                cured_by=next((name for name in _cures(hazard, deployment) if name in patches), ""),
                instead=hazard.instead,
                ways=tuple(_ways(hazard, deployment)),
            )


def _held(hazard: Hazard, deployment: Deployment) -> str | None:
    return hazard.found(deployment) if deployment.is_in(hazard.releases) else None


def _cures(hazard: Hazard, deployment: Deployment) -> tuple[str, ...]:
    """Those that the sglang that will run can take."""
    return hazard.cures if deployment.is_in(hazard.cured_in) else ()


def _ways(hazard: Hazard, deployment: Deployment) -> Iterator[str]:
    """Its cures, then what to give instead; each with the cure of what it leads to."""
    for cure in _cures(hazard, deployment):
        yield f"--patches {','.join((cure, *_behind(hazard, deployment)))}"
    if hazard.instead:
        given = parse(hazard.instead.split()) if hazard.instead.startswith("--") else {}
        further = _behind(hazard, replace(deployment, flags={**deployment.flags, **given}))
        yield f"{hazard.instead} with --patches {','.join(further)}" if further else hazard.instead


def _behind(hazard: Hazard, deployment: Deployment) -> list[str]:
    """The first cure of each hazard behind this one that the deployment holds too."""
    known = hazards()
    rest = [known[name] for name in hazard.behind if name in known]
    return [other.cures[0] for other in rest if other.cures and _held(other, deployment) is not None]
