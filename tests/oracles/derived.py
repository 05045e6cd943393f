"""Oracles of derived sentences: the chain of causes with each of its links, and the facts of a known issue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g4diag.model import Finding, Incident
from tests.oracles import arrays
from tests.oracles.claims import CLAIMS, broken_in
from tests.oracles.contract import Oracle, differ
from tests.oracles.verdicts import names


def cause(finding: Finding, incident: Incident) -> Iterator[str]:
    """Every claim of the chain is broken; each follows from one before it, by what their views have in common."""
    data, told = finding.data, [finding.data["traps"][0]]
    for name in data["traps"]:
        if not broken_in(incident, name):
            yield f"{name} is not broken"
    places = [place for _, found in broken_in(incident, told[0]) for place in found.places]
    if not any(names(data["said"], place.get("said", [])) for place in places):
        yield f"{told[0]} is nowhere broken with {data['said']}"
    yield from differ(data, {"traps": told + [link["effect"] for link in data["links"]]})
    for link, premise in zip(data["links"], finding.premises, strict=True):
        if link["cause"] not in told:
            yield f"{link['cause']} is no earlier part of the chain"
        told.append(link["effect"])
        if not any(_is_linked(link, one, other) for one, other in _pairs(link, incident)):
            yield f"no two views have {link} in common"
        named = str(link.get("backend", link.get("ids", [""])[0] if link.get("ids") else ""))
        if named not in premise:
            yield f"the premise {premise!r} does not name {named}"


def _pairs(link: dict[str, Any], incident: Incident) -> Iterator[tuple[Any, Any]]:
    for one, _ in broken_in(incident, link["cause"]):
        yield from ((one, other) for other, _ in broken_in(incident, link["effect"]))


def _is_linked(link: dict[str, Any], one: Any, other: Any) -> bool:
    if link["by"] == "backend":
        return link["backend"] == other.backend and other.backend in one.backend.split(">")
    if link["by"] == "read":
        return one is other and (one.step, one.layer_id) == (link["step"], link["layer_id"])
    both = _wrong(link["cause"], one, link["space"]) & _wrong(link["effect"], other, link["space"])
    return bool(link["ids"]) and min(link["ids"]) > 0 and {*link["ids"]} <= both


def _wrong(name: str, view: Any, space: str) -> set[int]:
    """The slots of one space that are wrong in a view, by whichever claim."""
    kind, _ = CLAIMS[name]
    if kind == "mapping_updates":
        at = [n for n, found in enumerate(view.mapped_N.tolist()) if found != int(view.swa_slots_N[n])]
        ids = [view.full_slots_N] if space == "full slot" else [view.mapped_N, view.swa_slots_N]
        return {int(of[n]) for of in ids for n in at}
    if kind == "reads":
        return _wrong_of_read(view, space)
    if space != arrays.slot_space(view.pool):
        return set()
    size = view.pool.page_size
    found = {place["value"] for claim in CLAIMS.values() if claim[0] == kind for place in _places(claim[1](view))}
    if kind == "free_lists":
        return {page * size + n for page in found for n in range(size)}
    return found


def _places(found: Any) -> list[dict[str, Any]]:
    return [place for place in found.places if "value" in place] if found else []


def _wrong_of_read(read: Any, space: str) -> set[int]:
    size = read.pool.page_size
    at = arrays.bad(read) or [one for one in arrays.live(read) if arrays.value(read, one) == 0]
    if space == arrays.slot_space(read.pool):
        pages = {arrays.value(read, one) for one in at}
    elif read.full_page_table_BP is not None:
        pages = {int(read.full_page_table_BP[row][column]) for row, column in at}
    else:
        return set()
    return {page * size + n for page in pages for n in range(size)}


_FIELDS = {"worker": "worker", "phase": "phase", "path": "path", "layer": "layer_kind", "call": "call"}


def issue(finding: Finding, incident: Incident) -> Iterator[str]:
    """Those facts that the arrays hold: what fired, and of which view."""
    for fact in finding.data["facts"]:
        key, _, words = fact.partition(": ")
        broken = {name: [view for view, _ in broken_in(incident, name)] for name in CLAIMS}
        views = [view for those in broken.values() for view in those]
        recorded = [*incident.violations]
        if key == "fired":
            there = {name for name, those in broken.items() if those} | {v.trap for v in recorded}
            if not {*words.split(", ")} <= there and not (incident.log or incident.ring):
                yield f"{words}: broken are {there}"
        elif key in _FIELDS and views:
            told = {str(getattr(view, _FIELDS[key], "")) for view in (*views, *recorded)} | {
                "free",
                "free list",
                "draft",
            }
            if not {*words.split(", ")} <= told:
                yield f"{key} is {words}: the views say {told}"
        elif key == "pool" and not {*words.split(", ")} <= {view.pool.name for view in views if hasattr(view, "pool")}:
            yield f"no broken view is of pool {words}"
        elif key == "origin" and words != incident.origin:
            yield f"the file is of {incident.origin}"


ORACLES: dict[str, Oracle] = {"cause": cause, "issue": issue}
