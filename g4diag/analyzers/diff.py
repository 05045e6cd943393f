"""Two dumps side by side: where they diverge first, and which side is wrong where one is judged faulty.

Two runs hand out different pages, so tables are compared by the number and by whether it is the right one: an entry
that is wrong on one side only comes before one that merely has another number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from g4diag.analyzers.causes import headline
from g4diag.analyzers.tables import bad_BP
from g4diag.dump.reader import read_dump
from g4diag.errors import UsageError
from g4diag.model import AttentionRead, BoolArray, Comparison, Finding, Grade, Incident, IntArray, Likeness
from g4diag.verdict import verdict_line

_SIDES = ("the first file", "the second file")


@dataclass(frozen=True)
class _Rows:
    """One row of a pair of tables, C entries live on either side. rows: (in the first, in the second)."""

    rows: tuple[int, int]
    column_C: IntArray
    id_2C: IntArray
    bad_2C: BoolArray

    @property
    def one_sided_C(self) -> BoolArray:
        """Wrong on one side only."""
        one_sided: BoolArray = self.bad_2C[0] != self.bad_2C[1]
        return one_sided

    @property
    def differs_C(self) -> BoolArray:
        """Another number, or wrong on one side only."""
        differs: BoolArray = self.one_sided_C | (self.id_2C[0] != self.id_2C[1])
        return differs


def diff_files(paths: Sequence[Path]) -> Comparison:
    """Read and compare two dumps. Raises UsageError unless there are two, else as `read_dump` does."""
    if len(paths) != 2:
        raise UsageError(f"diff: wanted two files, found {len(paths)}")
    left, right = map(read_dump, paths)
    return compare(left, right, (paths[0].name, paths[1].name))


def compare(left: Incident, right: Incident, names: tuple[str, str]) -> Comparison:
    """The same of two incidents in memory."""
    tables, entries = _tables(left, right)
    ids, calls = _allocations(left, right)
    mapping, slots = _mapping(left, right)
    compared = entries + calls + slots
    found = [*tables, *ids, *mapping, *_pools(left, right)]
    if not compared:
        text = f"nothing to lay side by side: one holds {_held(left)}, the other {_held(right)}"
        return Comparison(names, Likeness.NOT_COMPARABLE, (Finding("table", text, Grade.MEASURED),), 0)
    found += [*_verdicts(left, right, names), *_named("manifest", left.manifest, right.manifest)]
    found += _named("versions", left.versions, right.versions)
    differ = any(finding.data.get("differs") for finding in found)
    return Comparison(names, Likeness.DIFFER if differ else Likeness.SAME, tuple(found), compared)


def _held(incident: Incident) -> str:
    return f"{len(incident.reads)} table reads and {len(incident.allocations)} allocations ({incident.origin})"


def _differ(subject: str, text: str, grade: Grade = Grade.MEASURED, **data: Any) -> Finding:
    return Finding(subject, text, grade, False, {"differs": True, **data})


def _tables(left: Incident, right: Incident) -> tuple[list[Finding], int]:
    """A finding on the first pair of reads that differ, and how many live entries were compared in all pairs."""
    compared, one_sided, other_number = 0, None, None
    for pair in _pairs(left.reads, right.reads):
        rows = list(_rows_of(*pair))
        compared += sum(len(row.column_C) for row in rows)
        if one_sided is None and any(row.one_sided_C.any() for row in rows):
            one_sided = _table_finding(pair, rows, one_sided=True)
        if other_number is None and any(row.differs_C.any() for row in rows):
            other_number = _table_finding(pair, rows, one_sided=False)
    first = one_sided or other_number
    return [first] if first else [], compared


def _pairs(
    left: Sequence[AttentionRead], right: Sequence[AttentionRead]
) -> Iterator[tuple[AttentionRead, AttentionRead]]:
    """Reads of the same step, worker and layer; where no step is in both files, of the same worker and layer."""
    same_step = bool({read.step for read in left} & {read.step for read in right})

    def key(read: AttentionRead) -> tuple[str, int, int]:
        return read.worker, read.layer_id, read.step if same_step else -1

    theirs: dict[tuple[str, int, int], list[AttentionRead]] = {}
    for read in right:
        theirs.setdefault(key(read), []).append(read)
    for read in left:
        if found := theirs.get(key(read)):
            yield read, found.pop(0)


def _rows_of(left: AttentionRead, right: AttentionRead) -> Iterator[_Rows]:
    """Rows of one request where request ids tell, else rows of the same number."""
    both = left, right
    width = min(read.page_table_BP.shape[1] for read in both)
    bad, live = [bad_BP(read) for read in both], [read.live_BP() for read in both]
    for rows in _row_pairs(left, right):
        column_C = np.flatnonzero(live[0][rows[0], :width] | live[1][rows[1], :width])
        id_2C = np.stack([read.page_table_BP[row, column_C] for read, row in zip(both, rows, strict=True)])
        bad_2C = np.stack([mask[row, column_C] for mask, row in zip(bad, rows, strict=True)])
        yield _Rows(rows, column_C, id_2C, bad_2C)


def _row_pairs(left: AttentionRead, right: AttentionRead) -> list[tuple[int, int]]:
    if shared := [(row, right.rids.index(rid)) for row, rid in enumerate(left.rids) if rid and rid in right.rids]:
        return shared
    return [(row, row) for row in range(min(left.page_table_BP.shape[0], right.page_table_BP.shape[0]))]


def _table_finding(pair: tuple[AttentionRead, AttentionRead], rows: list[_Rows], one_sided: bool) -> Finding:
    """The first entry of the pair that is wrong on one side only, or that has another number."""
    left, right = pair
    found = next(row for row in rows if (row.one_sided_C if one_sided else row.differs_C).any())
    at = int((found.one_sided_C if one_sided else found.differs_C).argmax())
    column, ids, bad = int(found.column_C[at]), found.id_2C[:, at].tolist(), found.bad_2C[:, at].tolist()
    steps = f"step {left.step}" if left.step == right.step else f"steps {left.step} and {right.step}"
    row = f"row {found.rows[0]}" if found.rows[0] == found.rows[1] else f"rows {found.rows[0]} and {found.rows[1]}"
    where = f"layer {left.layer_id} ({left.layer_kind}), {steps}, {row} column {column}"
    differing, of = sum(int(row.differs_C.sum()) for row in rows), sum(len(row.column_C) for row in rows)
    unit = left.expected_space.unit
    pages = f"{unit} {ids[0]} in both" if ids[0] == ids[1] else f"{unit} {ids[0]} against {ids[1]}"
    text = f"{where}: {pages}; {differing} of {of} live entries differ"
    wrong = bad.index(True) if one_sided else None
    if wrong is not None:
        text += f"; {_SIDES[wrong]} is wrong there: {_why(pair[wrong], found.rows[wrong], column)}"
    data = {"layer_id": left.layer_id, "rows": [*found.rows], "column": column, "ids": ids, "wrong": wrong}
    return _differ("table", text, **data)


def _why(read: AttentionRead, row: int, column: int) -> str:
    page, pages, expected_BP = int(read.page_table_BP[row, column]), read.pool.num_pages, read.expected_BP()
    belongs = "" if expected_BP is None else f", {expected_BP[row, column]} belongs there"
    unit = read.expected_space.unit
    return (f"{page} is past its {pages} {unit}s" if page >= pages else f"{page} is not the right {unit}") + belongs


def _allocations(left: Incident, right: Incident) -> tuple[list[Finding], int]:
    """The first call whose slots differ, calls taken in order."""
    compared = 0
    for index, (ours, theirs) in enumerate(zip(left.allocations, right.allocations, strict=False)):
        length = min(len(ours.slots_N), len(theirs.slots_N))
        compared += length
        other = np.flatnonzero(ours.slots_N[:length] != theirs.slots_N[:length])
        if len(other) or len(ours.slots_N) != len(theirs.slots_N):
            place = int(other[0]) if len(other) else length
            ids = [int(call.slots_N[place]) if place < len(call.slots_N) else None for call in (ours, theirs)]
            text = f"allocation {index + 1}, id {place}: slot {ids[0]} against {ids[1]}".replace("None", "no more")
            return [_differ("allocation", text, call=index, at=place, ids=ids)], compared
    return [], compared


def _mapping(left: Incident, right: Incident) -> tuple[list[Finding], int]:
    """The first full slot that maps to different SWA slots."""
    both = [mapping for incident in (left, right) if (mapping := _mapping_of(incident)) is not None]
    if len(both) < 2:
        return [], 0
    sizes = [pool.page_size for incident in (left, right) for pool in incident.pools[:1]]
    if len(set(sizes)) > 1:
        text = f"pages of {sizes[0]} tokens against {sizes[1]}: slots are not compared"
        return [_differ("mapping", text, page_sizes=sizes)], 0
    length = min(map(len, both)) - 1
    other = np.flatnonzero(both[0][:length] != both[1][:length])
    if len(other):
        slot = int(other[0])
        ids = [int(one[slot]) for one in both]
        text = f"full slot {slot} is SWA slot {ids[0]} against {ids[1]}; {len(other)} of {length} slots differ"
        return [_differ("mapping", text, slot=slot, ids=ids, differing=len(other))], length
    if len(both[0]) != len(both[1]):
        text = f"{len(both[0])} entries against {len(both[1])}; equal as far as both go"
        return [_differ("mapping", text)], length
    return [], length


def _mapping_of(incident: Incident) -> Any:
    mapping = incident.mapping or next((read.mapping for read in incident.reads if read.mapping), None)
    return None if mapping is None or not mapping.is_whole else mapping.full_to_swa_M


def _pools(left: Incident, right: Incident) -> Iterator[Finding]:
    theirs = {pool.name: pool for pool in right.pools}
    for pool in left.pools:
        if (other := theirs.get(pool.name)) is None:
            continue
        ours, size = (pool.num_pages, pool.page_size), (other.num_pages, other.page_size)
        if ours != size:
            text = f"{pool.name} pool: {ours[0]} pages of {ours[1]} tokens against {size[0]} of {size[1]}"
            yield _differ("pools", text, name=pool.name)
        if pool.use is not None and other.use is not None and pool.use != other.use:
            yield _differ("pools", f"{pool.name} pool: {pool.use:.1%} in use against {other.use:.1%}", name=pool.name)


def _verdicts(left: Incident, right: Incident, names: tuple[str, str]) -> Iterator[Finding]:
    """Which side is judged faulty."""
    first = [headline(incident) for incident in (left, right)]
    for side, hit in enumerate(first):
        if hit is not None and first[1 - side] is None:
            text = f"{names[side]} is the faulty one: {verdict_line(hit.violation)}"
            yield _differ("verdict", text, Grade.MEASURED, wrong=side)
    if first[0] is not None and first[1] is not None:
        traps = [hit.violation.trap for hit in first if hit is not None]
        text = f"both are faulty: {traps[0]} against {traps[1]}"
        yield Finding("verdict", text, Grade.MEASURED, False, {"differs": traps[0] != traps[1], "wrong": None})


def _named(subject: str, left: dict[str, Any], right: dict[str, Any]) -> Iterator[Finding]:
    """Keys whose values differ, such as a package's version or the armed faults."""
    for key in sorted({*left, *right}):
        ours, theirs = left.get(key), right.get(key)
        if ours != theirs and (ours or theirs):
            yield _differ(subject, f"{key}: {_say(ours)} against {_say(theirs)}", key=key)


def _say(value: Any) -> str:
    return (", ".join(value) if isinstance(value, list) else str(value)) if value else "none"
