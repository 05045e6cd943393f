"""Oracles of the sentences on page tables: what an id means, which entries are wrong, which layers were handed them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from g4diag.model import AttentionRead, Finding, Incident, IndexMapping
from tests.oracles import arrays
from tests.oracles.contract import Oracle, differ, says


def meaning(finding: Finding, incident: Incident) -> Iterator[str]:
    """The sentence of one entry; and of the entries listed beside it their numbers."""
    data = finding.data
    read = incident.reads[data["read"]]
    at = data["row"], data["column"]
    wanted = _meaning(read, at, incident)
    yield from differ(data, wanted)
    yield from _owner(data, read, at, incident)
    yield from _words(finding.text, data, arrays.unit(read.pool))
    if "entries" in data:
        yield from _entries(data, read)


def _meaning(read: AttentionRead, at: arrays.Place, incident: Incident) -> dict[str, Any]:
    value, space, size = arrays.value(read, at), arrays.OTHER[str(read.pool.space)], read.pool.page_size
    first, last, right = (arrays.starts(read)[at[0]] + at[1]) * size, read.pool.num_pages - 1, arrays.expected(read)
    told = {"value": value, "space": space, "serves": [first, first + size - 1]}
    if read.is_clamped and value == last:
        none = {"other": None, "free": None, "beyond": None, "belongs": False, "past": False}
        return told | none | {"is_clamp": True}
    pools = [pool for pool in arrays.server_pools(incident) if arrays.ids_of(pool, space)]
    there = max((arrays.ids_of(pool, space) for pool in pools), default=None)
    lists = [pool for pool in pools if pool.free_pages_N is not None]
    return told | {
        "is_clamp": False,
        "belongs": right is not None and right[at] == value,
        "past": value > last,
        "beyond": there if there is not None and value >= there else None,
        "free": any(_is_free(value, pool, space) for pool in lists) if lists else None,
        "other": _other(value, space, read, incident),
    }


def _is_free(value: int, pool: Any, space: str) -> bool:
    page = value if str(pool.space) == space else value // pool.page_size
    return page in set(pool.free_pages_N.tolist())


def _of_read(read: AttentionRead, incident: Incident) -> tuple[IndexMapping | None, int]:
    """The mapping, and how many of its slots one id of the table stands for."""
    mapping = read.mapping or incident.mapping
    return mapping, 1 if mapping is None or arrays.unit(read.pool) == "slot" else mapping.page_size


def _other(value: int, space: str, read: AttentionRead, incident: Incident) -> int | None:
    mapping, size = _of_read(read, incident)
    if mapping is None:
        return None
    if space in arrays.SWA:
        slots = mapping.full_to_swa_M.tolist()[:-1]
        return next((slot // size for slot, swa in enumerate(slots) if swa > 0 and swa // size == value), None)
    page = arrays.swa_page(mapping, value, size)
    return page if page > 0 else None


def _owner(data: dict[str, Any], read: AttentionRead, at: arrays.Place, incident: Incident) -> Iterator[str]:
    """Somebody who holds the id holds it there; where nobody is named, nobody does."""
    if data["is_clamp"]:
        return
    full = data["other"] if data["space"] in arrays.SWA else data["value"]
    held = [] if full is None or full <= 0 else [*_holders(full, read, incident)]
    owner = data["owner"]
    if owner is None and held:
        yield f"held by {held[:2]}"
    elif owner is not None and (tuple(owner[:3]) not in {tuple(one[:3]) for one in held}):
        yield f"{owner} does not hold it; held by {held[:2]}"
    rid = read.rids[at[0]] if at[0] < len(read.rids) else None
    mine = [one for one in held if one[3] == at[0] or (one[4] and one[0] == rid)]
    if data["is_own"] is not bool(mine):
        yield f"is_own is {data['is_own']}, held by {held[:2]}"
    if data["is_own"] and owner is not None and tuple(owner[:3]) not in {one[:3] for one in mine}:
        yield f"{owner} is not this request"


def _holders(full: int, read: AttentionRead, incident: Incident) -> Iterator[tuple[str, int, int, int | None, bool]]:
    """(request, first and last position, its row if it was found by that, whether the name is a request id)."""
    size = read.pool.page_size
    if read.full_page_table_BP is not None:
        for row, pages in enumerate(read.full_page_table_BP.tolist()):
            rid, start = read.rids[row] if row < len(read.rids) else "", arrays.starts(read)[row]
            for column, page in enumerate(pages):
                first = (start + column) * size
                if page == full and first < int(read.seq_lens_B[row]):
                    yield rid or f"row {row}", first, first + size - 1, row, bool(rid)
    sizes = [pool.page_size for pool in arrays.server_pools(incident)] if arrays.unit(read.pool) == "slot" else []
    tokens = sizes[0] if sizes else size
    for request in incident.requests:
        for index, page in enumerate(request.full_pages_N.tolist()):
            if page == full * size // tokens:
                first = index * tokens + full * size % tokens
                yield request.rid, first, first + min(size, tokens) - 1, None, True


def _words(text: str, data: dict[str, Any], unit: str) -> Iterator[str]:
    value, owner = data["value"], data["owner"]
    none_belongs = data["belongs"] and value <= 0
    plain = not (data["is_clamp"] or data["belongs"] or value <= 0 or data["beyond"] is not None)
    yield from says(
        text,
        {
            "where the clamp puts": data["is_clamp"],
            f"no {unit} belongs there": none_belongs,
            f"is the {unit} that belongs there": data["belongs"] and value > 0,
            "too small for it": data["belongs"] and value > 0 and data["past"],
            "is the dummy": not data["belongs"] and value == 0 and not data["is_clamp"],
            "either: that pool has": not data["belongs"] and value > 0 and data["beyond"] is not None,
            "in use by no request recorded here": plain and owner is None and data["free"] is False,
            "of unrecorded owner": plain and owner is None and data["free"] is None,
            "on the free list": plain and data["free"] is True,
            "this request's own": plain and data["is_own"],
            f"; its {arrays.OTHER[data['space']]} is": plain and data["other"] is not None,
        },
    )


def _entries(data: dict[str, Any], read: AttentionRead) -> Iterator[str]:
    bad, right = arrays.bad(read), arrays.expected(read)
    for entry, at in zip(data["entries"], bad, strict=False):
        value, past = arrays.value(read, at), arrays.value(read, at) - read.pool.num_pages + 1
        wanted = {"row": at[0], "column": at[1], "value": value, "expected": None if right is None else right[at]}
        wanted["first_position"] = (arrays.starts(read)[at[0]] + at[1]) * read.pool.page_size
        yield from differ(entry, wanted | {"past_the_end": past if past > 0 else None})
    yield from differ(data, {"left_out": len(bad) - len(data["entries"]), "num_pages": read.pool.num_pages})


def table(finding: Finding, incident: Incident) -> Iterator[str]:
    data = finding.data
    read = incident.reads[data["read"]]
    alive, bad, right = arrays.live(read), arrays.bad(read), arrays.expected(read)
    inside = [at for at in alive if not arrays.is_outside(read, at)]
    shape = read.page_table_BP.shape
    belong = 0 if right is None else sum(arrays.value(read, at) == right[at] for at in bad)
    yield from differ(
        data,
        {
            **{"live": len(alive), "bad": len(bad), "bad_rows": len({row for row, _ in bad}), "belong": belong},
            **{"not_judged": len(inside) if right is None else 0, "layer_id": read.layer_id, "step": read.step},
            **{"table_rows": shape[0], "table_columns": shape[1], "num_pages": read.pool.num_pages},
        },
    )
    values = [arrays.value(read, at) for at in alive]
    outside = {"<": sum(v < 0 for v in values), ">": sum(v >= read.pool.num_pages for v in values)}
    good = 0 if right is None else sum(arrays.value(read, at) == right[at] for at in inside)
    wanted = {".": shape[0] * shape[1] - len(alive), "o": good, "?": data["not_judged"], **outside}
    yield from differ(data["counts"], wanted | {"w": len(alive) - good - data["not_judged"] - sum(outside.values())})
    for cell in data["cells"]:
        at = cell["row"], cell["column"]
        found = {"value": arrays.value(read, at), "expected": None if right is None else right[at]}
        yield from differ(cell, found)
    others = sum(1 for other in incident.reads if arrays.bad(other))
    yield from differ(data, {"left_out_reads": max(others - 4, 0)})


def layers(finding: Finding, incident: Incident) -> Iterator[str]:
    """A layer is wrong where one of its reads has a bad entry."""
    bad = {id(read): len(arrays.bad(read)) for read in incident.reads}
    wrong = [read for read in incident.reads if bad[id(read)]]
    wanted = {"wrong": len({(read.worker, read.layer_id) for read in wrong})}
    wanted["recorded"] = len({(read.worker, read.layer_id) for read in incident.reads})
    yield from differ(finding.data, wanted)
    kinds = ", ".join(sorted({str(read.layer_kind) for read in wrong}))
    if not finding.text.endswith(f"wrong table{': ' * bool(kinds)}{kinds}"):
        yield f"they are {kinds}"
    listed = finding.data["layers"]
    if not finding.data["left_out"] and sum(row["bad_entries"] for row in listed) != sum(bad.values()):
        yield "the rows have another number of bad entries"


def stale_tail(finding: Finding, incident: Incident) -> Iterator[str]:
    read = incident.reads[finding.data["read"]]
    rows, columns = read.page_table_BP.shape
    every = [(row, column) for row in range(rows) for column in range(columns)]
    out = [at for at in every if arrays.is_outside(read, at)]
    wanted = {"count": len(out), "rows": len({row for row, _ in out}), "bound": read.pool.num_pages}
    yield from differ(finding.data, wanted | {"layer_id": read.layer_id})
    if {*out} & {*arrays.live(read)}:
        yield "a query reads one of them"


ORACLES: dict[str, Oracle] = {"meaning": meaning, "table": table, "layers": layers, "stale-tail": stale_tail}
