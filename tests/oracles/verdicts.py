"""Oracles of the verdict, of its evidence, of each trap's line and of the crash signature."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from g4diag.model import Finding, Incident
from tests.oracles import arrays
from tests.oracles.claims import CLAIMS, Broken, broken_in, entries, judged_in
from tests.oracles.contract import Oracle, differ, says

_PLACE = ("step", "layer_id", "row", "column", "value", "expected", "bound", "window_left")


def broken(finding: Finding, incident: Incident) -> Iterator[str]:
    """The first line: some view breaks this very claim at this very place, in so many entries."""
    data = finding.data
    is_warning = finding.text.startswith("WARNING: ")
    hits = [found for _, found in broken_in(incident, data["trap"]) if found.is_warning is is_warning]
    made = [(_headline(found, place), place.get("said", [])) for found in hits for place in found.places]
    if not any(not [*differ(data, wanted)] and names(data["said"], said) for wanted, said in made):
        yield f"no view breaks {data['trap']} at {[data[key] for key in _PLACE]}, {data['count']} times: {made[:3]}"
    yield from says(finding.text, {f"g4diag: {data['trap']}: ": True})
    past = data["past_the_end"]
    yield from says(finding.text, {" past the ": past is not None})
    if past is not None and f"{past} past the " not in finding.text:
        yield f"the text has another distance than {past}"


def names(said: list[int], wanted: list[int]) -> bool:
    """Whether each number that has to be named is, and as often. Names of pools and calls may hold others."""
    return not Counter(wanted) - Counter(said)


def _headline(found: Broken, place: dict[str, Any]) -> dict[str, Any]:
    value, bound, low = place.get("value"), place.get("bound"), place.get("low", 0)
    past = value - bound + 1 if value is not None and bound is not None and value >= bound else None
    return {
        **{name: place.get(name) for name in _PLACE},
        **{"low": low, "count": found.count, "past_the_end": past},
        "before_the_first": low - value if value is not None and value < low else None,
    }


def _nothing_broken(incident: Incident) -> Iterator[str]:
    for name in CLAIMS:
        if broken_in(incident, name):
            yield f"{name} is broken"


def healthy(finding: Finding, incident: Incident) -> Iterator[str]:
    ran = sum(1 for name in CLAIMS if judged_in(incident, name))
    yield from differ(finding.data, {"checked": entries(incident), "judged": ran, "traps": len(CLAIMS)})
    yield from _nothing_broken(incident)


def unread(finding: Finding, incident: Incident) -> Iterator[str]:
    wanted = {"unread": [*incident.unread], "checked": entries(incident), "more": len(incident.unread) - 1}
    yield from differ(finding.data, wanted)
    yield from _nothing_broken(incident)


def cleared(finding: Finding, incident: Incident) -> Iterator[str]:
    trap = finding.data["trap"]
    if trap not in _recorded(incident) or not judged_in(incident, trap) or broken_in(incident, trap):
        yield f"{trap} was not recorded, cannot be judged, or is broken"


def _recorded(incident: Incident) -> str:
    told = [violation.trap for violation in incident.violations]
    return "\n".join(told + [event.text for event in incident.log] + [record.text for record in incident.ring])


def nothing(finding: Finding, incident: Incident) -> Iterator[str]:
    yield from differ(finding.data, {"checked": entries(incident)})


def count(finding: Finding, incident: Incident) -> Iterator[str]:
    data = finding.data
    found = [one for _, one in broken_in(incident, data["trap"]) if one.count == data["count"]]
    if not any(one.checked == data["checked"] for one in found):
        yield f"{data['trap']} is nowhere broken in {data['count']} of {data['checked']}"
    if "outside the bound" in finding.text:
        ends = [place for one in found for place in one.places]
        if not all(place["value"] >= place["bound"] or place["value"] < place.get("low", 0) for place in ends):
            yield "not all of them are outside"


def too(finding: Finding, incident: Incident) -> Iterator[str]:
    hits = broken_in(incident, finding.data["trap"])
    warnings = sum(1 for _, found in hits if found.is_warning)
    # "more" is said of the claim that leads, beside the view that it leads with.
    yield from differ(finding.data, {"views": len(hits) - (" more view" in finding.text)})
    if finding.data["warnings"] not in (warnings, warnings - (" more view" in finding.text)):
        yield f"{warnings} of them are warnings"


def label(finding: Finding, incident: Incident) -> Iterator[str]:
    data = finding.data
    read = _read(finding, incident)
    if read is None or read.pool.name != data["pool"]:
        yield "no such read"
    elif (str(read.table_space), str(read.pool.space)) != (data["table"], data["wants"]):
        yield f"that read was handed a {read.table_space} table of a pool of {read.pool.space}s"
    yield from says(finding.text, {f"its {data['table']} table": True, f"in {data['wants']}s": True})


def clamped(finding: Finding, incident: Incident) -> Iterator[str]:
    for read in incident.reads:
        last = read.pool.num_pages - 1
        many = sum(arrays.value(read, at) == last for at in arrays.live(read))
        wanted = {"step": read.step, "layer_id": read.layer_id, "count": many, "last": last}
        if read.is_clamped and not [*differ(finding.data, wanted)]:
            return
    yield "no read is a clamped copy with so many ids on its last page"


def _read(finding: Finding, incident: Incident) -> Any:
    place = finding.data["step"], finding.data["layer_id"]
    found = [read for read in incident.reads if (read.step, read.layer_id) == place]
    return next((read for read in found if str(read.table_space) == finding.data["table"]), None)


def trap(finding: Finding, incident: Incident) -> Iterator[str]:
    name = finding.data["trap"]
    kind, _ = CLAIMS[name]
    hits, judged = len(broken_in(incident, name)), judged_in(incident, name)
    yield from differ(finding.data, {"views": len(getattr(incident, kind)), "violations": hits, "judged": judged})
    yield from says(finding.text, {"could not be judged": not judged, f"{hits} broken in {judged} views": judged > 0})


def idle(finding: Finding, incident: Incident) -> Iterator[str]:
    wanted = sorted(name for name, (kind, _) in CLAIMS.items() if not getattr(incident, kind))
    yield from differ(finding.data | {"traps": sorted(finding.data["traps"])}, {"traps": wanted, "count": len(wanted)})


def disagrees(finding: Finding, incident: Incident) -> Iterator[str]:
    name = finding.data["trap"]
    was, found = any(v.trap == name for v in incident.violations), name in CLAIMS and broken_in(incident, name)
    views = judged_in(incident, name) if name in CLAIMS else 0
    how = "new" if found and not was else "cleared" if was and views and not found else "not judged"
    if how == "not judged" and (views or not was):
        yield "nothing disagrees"
    yield from differ(finding.data, {"disagrees": how} | ({} if how == "new" else {"judged": views}))


def signature(finding: Finding, incident: Incident) -> Iterator[str]:
    """Trap, space, kind of layer and phase of one view that breaks the claim, or of a record."""
    head, name, *parts = finding.text.split(":")
    if head != "g4d1" or len(parts) != 4:
        yield "not a signature"
        return
    if finding.data["recorded"]:
        if name != "-" and name not in re.sub(r"[^a-z0-9_>.-]+", "_", _recorded(incident).lower()):
            yield f"{name} is not on record"
        return
    made = [[*_parts(name, view)] for view, _ in broken_in(incident, name)]
    if [parts[0], parts[1], parts[3]] not in made:
        yield f"no view that breaks {name} is {parts}: {made[:3]}"


# Claims of rows, not of ids.
_OF_NO_SPACE = ("table_is_of_this_step", "table_is_wide_enough", "request_row_is_of_its_request")
_OF_NO_SPACE += ("window_is_the_models", "page_size_is_the_pools")


def _parts(name: str, view: Any) -> Iterator[str]:
    space, pool = "", getattr(view, "pool", None)
    of_pages = (
        "page_is_free_or_live",
        "free_list_is_free",
        "page_in_window_is_mapped",
        "mapping_is_what_was_handed_out",
    )
    if name in of_pages or name.startswith("page_table"):
        space = str(pool.space)
    elif name in ("mapping_follows_allocation", "matched_prefix_is_mapped"):
        space = "SWA slot"
    elif name not in _OF_NO_SPACE and hasattr(pool, "space"):
        space = arrays.slot_space(pool)
    calls = {"releases": "free", "free_lists": "free list", "others": "match_prefix"}
    phase = calls.get(CLAIMS[name][0]) or getattr(view, "phase", getattr(view, "call", getattr(view, "inside", "")))
    for part in (space.replace(" ", "-"), str(getattr(view, "layer_kind", "") or ""), str(phase)):
        yield re.sub(r"[^a-z0-9_>.-]+", "_", part.lower())[:48].strip("_") or "-"


ORACLES: dict[str, Oracle] = {
    **{"broken": broken, "healthy": healthy, "unread": unread, "cleared": cleared, "nothing": nothing},
    **{"count": count, "too": too, "label": label, "clamped": clamped, "trap": trap, "idle": idle},
    **{"disagrees": disagrees, "signature": signature},
}
