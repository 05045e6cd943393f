"""Oracle of what a bad table is said to hold: every reading's counts, entry by entry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from g4diag.model import AttentionRead, Finding, Incident
from tests.oracles import arrays
from tests.oracles.contract import Oracle, differ, says

_ROWS_COMPARED, _ENOUGH = 8, 0.9


class _Table:
    """One read, taken apart once."""

    def __init__(self, read: AttentionRead, incident: Incident) -> None:
        self.read, self.incident = read, incident
        self.live, self.bad, self.right = arrays.live(read), {*arrays.bad(read)}, arrays.expected(read)
        self.value = {at: arrays.value(read, at) for at in self.live}
        self.size, self.pages, self.columns = read.pool.page_size, read.pool.num_pages, read.page_table_BP.shape[1]
        full = read.full_page_table_BP
        self.full = None if full is None else {at: int(full[at[0]][at[1]]) for at in self.live}

    def predicted(self, ids: Callable[[arrays.Place], int]) -> tuple[int, int, int | None]:
        right = self.right or {}
        hits = [at for at in self.live if self.value[at] == ids(at)]
        telling = [at for at in hits if self.right is not None and ids(at) != right[at]]
        return len(hits), self._bad(hits), None if self.right is None else len(telling)

    def where(self, is_so: Callable[[arrays.Place], bool]) -> tuple[int, int, None]:
        hits = [at for at in self.live if is_so(at)]
        return len(hits), self._bad(hits), None

    def _bad(self, hits: list[arrays.Place]) -> int:
        return sum(at in self.bad for at in hits)


def reading(finding: Finding, incident: Incident) -> Iterator[str]:
    """The winner is one of the readings; and each of them explains as many entries as it says."""
    data = finding.data
    table = _Table(incident.reads[data["read"]], incident)
    yield from differ(data, {"bad_entries": len(table.bad), "inferred": table.right is None})
    for one in data["hypotheses"]:
        yield from differ(one, {"of": len(table.live), "of_bad": len(table.bad)})
        told = one["explained"], one["bad"], one["telling"]
        made = [*_made(one, table)]
        if told not in made:
            yield f"{one['name']} ({one['text']}) explains {told}, the arrays give {made}"
    named = [one for one in data["hypotheses"] if one["name"] == data["winner"]]
    yield from says(
        finding.text, {"cannot tell": data["winner"] is None, "inferred best fit": data["inferred"] and bool(named)}
    )
    if data["winner"] and not any(f": {one['text']} ({one['explained']} of" in finding.text for one in named):
        yield "it names another reading than the one that won"
    if data["winner"] and all(one["telling"] == 0 for one in named):
        yield "the winner and the right ids agree on every entry it explains"
    if not finding.premises:
        yield "it does not say what it rests on"


def _made(one: dict[str, Any], table: _Table) -> Iterator[tuple[int, int, int | None]]:
    name, value, read, right = one["name"], table.value, table.read, table.right
    if name == "stale-tail":
        tails = {row for row, _ in table.live if _is_tail(row, table)}
        yield table.where(lambda at: at not in table.bad or at[0] in tails)
    elif right is None:
        yield from _by_geometry(name, table)
    elif name in _PREDICTED:
        yield table.predicted(lambda at: _PREDICTED[name](table, at))
    elif name == "right-ids":
        yield table.where(lambda at: value[at] == right[at])
    elif name in ("slots", "full-slots"):
        ids = right if name == "slots" else table.full or {}
        yield table.where(lambda at: value[at] >= table.size and value[at] // table.size == ids[at])
    elif name in ("negative", "dummy"):
        yield table.where(lambda at: at not in table.bad or (value[at] < 0 if name == "negative" else value[at] == 0))
    elif name == "shifted":
        step = 1 if one["text"].endswith("right") else -1
        yield table.predicted(lambda at: max(right.get((at[0], at[1] + step), -1), 0) or -1)
    elif name == "byte-offset":
        factor = int(re.findall(r"\d+", one["text"])[0])
        yield table.predicted(lambda at: right[at] * factor)
    elif name == "other-row":
        yield _other_row(table)
    elif name == "other-request":
        yield from _other_request(one, table)
    elif name == "earlier-step":
        for then in table.incident.reads:
            same = (then.worker, then.layer_id) == (read.worker, read.layer_id) and then.step < read.step
            same = same and then.page_table_BP.shape == read.page_table_BP.shape
            if same and one["text"].endswith(f"step {then.step}"):
                yield table.where(lambda at, then=then: value[at] == arrays.value(then, at))  # type: ignore[misc]


def _full(table: _Table, at: arrays.Place) -> int:
    assert table.full is not None
    return table.full[at]


def _twice(table: _Table, at: arrays.Place) -> int:
    right = (table.right or {})[at]
    return arrays.swa_page(table.read.mapping, right, table.size) if right > 0 else 0


def _to_swa(table: _Table, at: arrays.Place) -> int:
    assert table.read.mapping is not None
    return arrays.swa_page(table.read.mapping, _full(table, at), table.read.mapping.page_size)


_PREDICTED: dict[str, Callable[[_Table, arrays.Place], int]] = {
    "full-ids": _full,
    "clamp": lambda table, at: min(max(_full(table, at), 0), table.pages - 1),
    "twice": _twice,
    "swa-ids": _to_swa,
}


def _is_tail(row: int, table: _Table) -> bool:
    """Right at first, and from the first wrong entry on wrong to the end."""
    wrong = [at in table.bad for at in table.live if at[0] == row]
    return not wrong[0] and any(wrong) and all(wrong[wrong.index(True) :])


def _other_row(table: _Table) -> tuple[int, int, None]:
    right = table.right or {}
    rows = sorted({row for row, _ in table.bad})[:_ROWS_COMPARED]
    best = []
    for row in rows:
        mine = [at for at in table.live if at[0] == row]
        of_row = [
            sum(table.value[at] == right[other, at[1]] != right[at] for at in mine)
            for other in range(table.read.page_table_BP.shape[0])
        ]
        best.append(max(of_row))
    rest = sum(1 for at in table.live if at[0] not in rows and at not in table.bad)
    return rest + sum(best), sum(best), None


def _other_request(one: dict[str, Any], table: _Table) -> Iterator[tuple[int, int, None]]:
    read = table.read
    mapping = read.mapping or table.incident.mapping
    for request in table.incident.requests:
        if f"request {request.rid}," not in one["text"] or request.rid in read.rids:
            continue
        held = request.full_pages_N.tolist()

        def page(at: arrays.Place, held: list[int] = held) -> int:
            index = at[1] + arrays.starts(read)[at[0]]
            full = held[index] if 0 <= index < len(held) else -1
            if arrays.is_swa(read.pool) and mapping is not None:
                return arrays.swa_page(mapping, full, table.size) if full > 0 else -1
            return full

        yield table.where(lambda at, page=page: at not in table.bad or table.value[at] == page(at) > 0)  # type: ignore[misc]


def _by_geometry(name: str, table: _Table) -> Iterator[tuple[int, int, None]]:
    value = table.value
    if name == "clamp":
        yield table.where(lambda at: value[at] == table.pages - 1)
    elif name == "slots":
        size = table.size
        yield table.where(lambda at: value[at] >= size and value[at] % size == 0 and value[at] // size < table.pages)
    elif name == "full-ids":
        left = {row: min(column for r, column in table.live if r == row) for row, _ in table.live}
        ids = {row: table.read.page_table_BP[row].tolist()[:first] for row, first in left.items()}
        if not any(ids.values()):
            yield table.where(lambda at: at in table.bad)
        share = {row: sum(one > 0 for one in those) / max(len(those), 1) for row, those in ids.items()}
        yield table.where(lambda at: share[at[0]] >= _ENOUGH)


ORACLES: dict[str, Oracle] = {"reading": reading}
