"""Oracles of the sentences on pools, the mapping, the recorder and what a record said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from g4diag.model import Finding, Incident
from tests.oracles import arrays
from tests.oracles.contract import Oracle, differ, says


def pool(finding: Finding, incident: Incident) -> Iterator[str]:
    pools = [*incident.pools, *(view.pool for view in (*incident.reads, *incident.allocations))]
    made = []
    for one in pools:
        use = arrays.use(one)
        told = {"name": one.name, "space": str(one.space), "page_size": one.page_size, "num_pages": one.num_pages}
        made.append(told | {"use": None if use is None else round(use, 4), "dummy": 0})
    if not any(not [*differ(finding.data, wanted)] for wanted in made):
        yield f"no pool is {finding.data}"


def _unit(incident: Incident) -> str:
    if incident.mapping is not None:
        return "page"
    return arrays.unit(next(read.pool for read in incident.reads if read.mapping is not None))


def divergence(finding: Finding, incident: Incident) -> Iterator[str]:
    mapping = arrays.mapping_of(incident)
    pages = {} if mapping is None else arrays.pages_of(mapping)
    there = [(full, swa) for full, swa in pages.items() if swa > 0]
    moved = sum(full != swa for full, swa in there)
    yield from differ(finding.data, {"mapped_pages": len(there), "divergent_pages": moved, "unit": _unit(incident)})


def mapping(finding: Finding, incident: Incident) -> Iterator[str]:
    data, of = finding.data, arrays.mapping_of(incident)
    assert of is not None
    pages = arrays.pages_of(of)
    times = Counter(swa for swa in pages.values() if swa > 0)
    fits = [
        one
        for one in (*incident.pools, *(read.pool for read in incident.reads))
        if str(one.space) == "full page" and one.name != "draft-own" and one.page_size == of.page_size
        if one.num_pages * one.page_size == len(of.full_to_swa_M) - 1
    ]
    free = set(fits[0].free_pages_N.tolist()) if fits and fits[0].free_pages_N is not None else set()
    states: Counter[str] = Counter()
    for full, swa in pages.items():
        if swa <= 0:
            states["unmapped and free" if full in free else "unmapped"] += 1
        elif times[swa] > 1:
            states["shared SWA page"] += 1
        else:
            is_same = "same number" if full == swa else "another number"
            states["mapped, yet free" if full in free else is_same] += 1
    moved = sum(full != swa for full, swa in pages.items() if swa > 0)
    wanted = {"mapped": times.total(), "moved": moved, "full_pages": len(pages), "unit": _unit(incident)}
    yield from differ(data, wanted)
    yield from differ(data["counts"], {name: states[name] for name in data["counts"]})
    odd = ("mapped, yet free", "shared SWA page")
    yield from says(finding.text, {f"; {name}: {states[name]}": states[name] > 0 for name in odd})
    for points in data["points"].values():
        for full, swa in zip(points["full"], points["swa"], strict=True):
            if max(pages[full], 0) != swa:
                yield f"full {full} is drawn at {swa}"


def _known(step: Any, name: str) -> bool:
    return getattr(step, f"{name}_size") > 0 and getattr(step, f"{name}_free") >= 0


def _use(step: Any, name: str) -> float:
    return 1 - getattr(step, f"{name}_free") / getattr(step, f"{name}_size")


def pool_use(finding: Finding, incident: Incident) -> Iterator[str]:
    name, data = finding.data["pool"], finding.data
    steps = [step for step in arrays.steps(incident) if step.full_size > 0 and _known(step, name)]
    first, last = steps[0], steps[-1]
    peak = max(steps, key=lambda step: _use(step, name))
    free = getattr(peak, f"{name}_free")
    refused = last.refused - first.refused if min(first.refused, last.refused) >= 0 else 0
    yield from differ(
        data,
        {
            **{"first": [_use(first, name), first.step], "peak": [_use(peak, name), peak.step]},
            **{"last": [_use(last, name), last.step], "slots": getattr(last, f"{name}_size")},
            **{"filled": free == 0, "free": free, "refused": max(refused, 0)},
        },
    )
    phrases = {"it filled": free == 0, "full at none of these steps": free > 0, "were refused": refused > 0}
    yield from says(finding.text, phrases)


def one_sided(finding: Finding, incident: Incident) -> Iterator[str]:
    steps = [step for step in arrays.steps(incident) if _known(step, "full") and _known(step, "swa")]
    told = [[max(s.full_size - s.full_free - s.swa_size + s.swa_free, 0), s.step] for s in steps]
    most = max(told, key=lambda one: one[0])
    yield from differ(finding.data, {"first": told[0], "last": told[-1], "most": most})


def last_step(finding: Finding, incident: Incident) -> Iterator[str]:
    step = arrays.steps(incident)[-1]
    use = {said: _use(step, name) for said, name in (("full", "full"), ("SWA", "swa")) if _known(step, name)}
    wanted = {"step": step.step, "mode": step.mode, "batch": step.batch, "waiting": step.waiting, "use": use}
    yield from differ(finding.data, wanted)


def held(finding: Finding, incident: Incident) -> Iterator[str]:
    yield from differ(finding.data, {"counts": [len(incident.reads), len(incident.swaps), len(incident.allocations)]})


def recorded(finding: Finding, incident: Incident) -> Iterator[str]:
    """A record's own numbers: of the file's violations, or of one line or mark."""
    keys = ("trap", "layer_id", "row", "column", "value", "bound")
    value, bound = finding.data["value"], finding.data["bound"]
    past = value - bound + 1 if value is not None and bound is not None and value >= bound else None
    low = finding.data["low"]
    before = low - value if value is not None and value < low else None
    yield from differ(finding.data, {"past_the_end": past, "before_the_first": before})
    told = {key: finding.data[key] for key in keys}
    if incident.violations:
        if not any(told == {key: getattr(one, key) for key in keys} for one in incident.violations):
            yield f"no violation on record is {told}"
        return
    names = {key: key for key in keys} | {"layer_id": "layer"}
    lines = [event.text for event in incident.log if event.kind == "violation"]
    lines += [f"trap={record.text}" for record in incident.ring if record.kind == "violation"]
    wanted = [f"{names[key]}={value}" for key, value in told.items() if value is not None]
    if not any(all(word in line.split() for word in wanted) for line in lines):
        yield f"no line on record says {wanted}"


def placed(finding: Finding, incident: Incident) -> Iterator[str]:
    """The pool has as many pages of one power of two as the bound says, by the recorder; the other pool has not."""
    data = finding.data
    step = next(step for step in reversed(incident.ring) if step.swa_size > 0 and step.full_size > 0)
    sizes = {name: getattr(step, f"{name}_size") / (data["bound"] - 1) for name in ("full", "swa")}
    counts = [n for r in incident.ring for n in (r.full_size, r.full_free, r.swa_size, r.swa_free) if n > 0]
    fits = [name for name, size in sizes.items() if size in [1 << n for n in range(17)]]
    fits = [name for name in fits if all(count % sizes[name] == 0 for count in counts)]
    if fits != [data["kind"]]:
        yield f"the bound fits the pools {fits}"
    yield from differ(data, {"space": "SWA page" if data["kind"] == "swa" else "full page"})
    if data["value_space"] and not data["bound"] <= data["value"] <= step.full_size // sizes[data["kind"]]:
        yield "it is no full page"


def event(finding: Finding, incident: Incident) -> Iterator[str]:
    data = finding.data
    calls = incident.allocations if data["event"] == "handed out" else incident.releases
    holding = [n + 1 for n, call in enumerate(calls) if data["page"] in _ids(call, data["space"])]
    yield from differ(data, {"call": holding[-1] if holding else None, "of": len(calls)})
    yield from says(finding.text, {f"{data['space']} {data['page']} was {data['event']}": True})


def _ids(call: Any, space: str) -> set[int]:
    """The ids of the space that one call handed out or took back, of the server's own pools."""
    if call.pool.name == "draft-own" or space not in (str(call.pool.space), arrays.slot_space(call.pool)):
        return set()
    size = call.pool.page_size if str(call.pool.space) == space else 1
    return {slot // size for slot in call.slots_N.tolist()}


def _is_free(page: int, space: str, incident: Incident) -> bool | None:
    pools = [one for one in arrays.server_pools(incident) if arrays.ids_of(one, space) and one.free_pages_N is not None]
    at = [(page if str(one.space) == space else page // one.page_size) in one.free_pages_N.tolist() for one in pools]
    return any(at) if at else None


def _named(finding: Finding) -> Iterator[str]:
    pages = finding.data["pages"]
    if not pages or min(pages) < 1 or len({*pages}) != len(pages):
        yield f"the dummy, or a page twice: {pages}"
    yield from says(finding.text, {f"{finding.data['space']} {', '.join(map(str, pages))}: ": True})


def free_list(finding: Finding, incident: Incident) -> Iterator[str]:
    data = finding.data
    found = [page for page in data["pages"] if _is_free(page, data["space"], incident) is not data["free"]]
    if found:
        yield f"{found} are not so"
    yield from _named(finding)
    yield from says(finding.text, {"not on the free list": not data["free"]})


def unmapped(finding: Finding, incident: Incident) -> Iterator[str]:
    of = [read.mapping or incident.mapping for read in incident.reads]
    data = finding.data
    size = 1 if data["space"].endswith("slot") else None
    known = [one for one in of if one is not None]
    if not known or data["space"] in arrays.SWA:
        yield "no mapping says so"
    for page in data["pages"]:
        if all(arrays.swa_page(one, page, size or one.page_size) > 0 for one in known):
            yield f"{page} is mapped"
    yield from _named(finding)


def owner_steps(finding: Finding, incident: Incident) -> Iterator[str]:
    import zlib

    data, hashed = finding.data, f"{zlib.crc32(finding.data['owner'].encode(errors='replace')):08x}"
    ran = [step.step for step in arrays.steps(incident) if hashed in step.rids]
    wanted = {"owner_first_step": ran[0] if ran else None, "owner_last_step": ran[-1] if ran else None}
    yield from differ(data, wanted)
    if not any(hashed in premise and data["owner"] in premise for premise in finding.premises):
        yield "it does not say by what"


def freed_apart(finding: Finding, incident: Incident) -> Iterator[str]:
    found = [(s.step, s.swa_freed - s.freed) for s in arrays.steps(incident) if s.swa_freed > s.freed >= 0]
    yield from differ(finding.data, {"apart_since_step": found[0][0], "slots": found[0][1]})


def no_lifetime(finding: Finding, incident: Incident) -> Iterator[str]:
    for page in finding.data["pages"]:
        for call in (*incident.allocations, *incident.releases):
            if page in _ids(call, finding.data["space"]):
                yield f"a call has {page}"
        if _is_free(page, finding.data["space"], incident) is not None:
            yield f"a free list tells of {page}"


ORACLES: dict[str, Oracle] = {
    **{"pool": pool, "divergence": divergence, "mapping": mapping, "pool-use": pool_use, "one-sided": one_sided},
    **{"last-step": last_step, "held": held, "recorded": recorded, "placed": placed, "event": event},
    **{"free-list": free_list, "unmapped": unmapped, "owner-steps": owner_steps, "freed-apart": freed_apart},
    "no-lifetime": no_lifetime,
}
