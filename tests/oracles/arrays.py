"""What an incident's arrays say, in plain Python: no code of the traps, the analyzers or the model's own arithmetic.

An entry is live where its page holds a key that one of the row's queries sees: position by position, not by the
formula that `AttentionRead` uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from g4diag.model import AttentionRead, Incident, IndexMapping, PoolView

Place = tuple[int, int]
_Made = Callable[[Any], Any]
# What was made of a view, kept while the view lives: every sentence asks anew.
_KEPT: dict[tuple[str, int], tuple[Any, Any]] = {}


def kept(made: _Made) -> Any:
    """`made` of one object, remembered for the last few."""

    @wraps(made)
    def look(of: Any) -> Any:
        key = made.__qualname__ + made.__module__, id(of)
        if key not in _KEPT or _KEPT[key][0] is not of:
            if len(_KEPT) > 400:
                _KEPT.clear()
            _KEPT[key] = of, made(of)
        return _KEPT[key][1]

    return look


SWA = ("SWA page", "SWA slot")
OTHER = {"SWA page": "full page", "full page": "SWA page", "SWA slot": "full slot", "full slot": "SWA slot"}


def is_swa(pool: PoolView) -> bool:
    return str(pool.space) in SWA


def unit(pool: PoolView) -> str:
    return str(pool.space).split()[-1]


def slot_space(pool: PoolView) -> str:
    return "SWA slot" if is_swa(pool) else "full slot"


@kept
def starts(read: AttentionRead) -> list[int]:
    return [0] * len(read.seq_lens_B) if read.first_B is None else read.first_B.tolist()


@kept
def live(read: AttentionRead) -> list[Place]:
    """(row, column) of each entry that a query of its row follows, in row order."""
    found, size, columns, start = [], read.pool.page_size, read.page_table_BP.shape[1], starts(read)
    for row, keys in enumerate(read.seq_lens_B.tolist()):
        # The oldest query of this step stands at keys - q_len, and sees window_left keys before itself.
        oldest = max(keys - read.q_len - read.window_left, 0) if read.window_left >= 0 else 0
        for column in range(columns):
            first_key = (start[row] + column) * size
            if first_key < keys and first_key + size > oldest and first_key >= 0:
                found.append((row, column))
    return found


def mapped(mapping: IndexMapping | None, slot: int) -> int:
    """The SWA slot of a full one: 0 for none, -1 where the mapping has no such slot. Its last entry is a sentinel."""
    if mapping is None or not 0 <= slot < len(mapping.full_to_swa_M) - 1:
        return -1
    return int(mapping.full_to_swa_M[slot])


def swa_page(mapping: IndexMapping | None, page: int, size: int) -> int:
    slot = mapped(mapping, page * size)
    return slot // size


@kept
def expected(read: AttentionRead) -> dict[Place, int] | None:
    """What belongs into each entry, None if the file does not tell."""
    if read.full_page_table_BP is None or (is_swa(read.pool) and read.mapping is None):
        return None
    rows = read.full_page_table_BP.tolist()
    full = {(row, column): page for row, those in enumerate(rows) for column, page in enumerate(those)}
    if not is_swa(read.pool):
        return full
    assert read.mapping is not None
    return {at: swa_page(read.mapping, page, read.mapping.page_size) for at, page in full.items()}


def value(read: AttentionRead, at: Place) -> int:
    return int(read.page_table_BP[at[0]][at[1]])


def is_outside(read: AttentionRead, at: Place) -> bool:
    return not 0 <= value(read, at) < read.pool.num_pages


@kept
def wrong(read: AttentionRead) -> list[Place]:
    """Live entries that do not hold what belongs there."""
    right = expected(read)
    return [] if right is None else [at for at in live(read) if value(read, at) != right[at]]


@kept
def bad(read: AttentionRead) -> list[Place]:
    """Live entries that are outside the pool or hold another id."""
    right = expected(read)
    return [at for at in live(read) if is_outside(read, at) or (right is not None and value(read, at) != right[at])]


def server_pools(incident: Incident) -> list[PoolView]:
    """Those that the mapping is between; a draft's own pool counts by itself."""
    return [pool for pool in incident.pools if pool.name != "draft-own"]


def ids_of(pool: PoolView, space: str) -> int:
    """How many ids of the space a pool has."""
    if str(pool.space) == space:
        return pool.num_pages
    return pool.num_pages * pool.page_size if space == slot_space(pool) and unit(pool) == "page" else 0


def mapping_of(incident: Incident) -> IndexMapping | None:
    return incident.mapping or next((read.mapping for read in incident.reads if read.mapping is not None), None)


@kept
def pages_of(mapping: IndexMapping) -> dict[int, int]:
    """Full page -> SWA page, of every page but the dummy."""
    size = mapping.page_size
    return {page: swa_page(mapping, page, size) for page in range(1, (len(mapping.full_to_swa_M) - 1) // size)}


def use(pool: PoolView) -> float | None:
    if pool.free_pages_N is None or pool.num_pages < 2:
        return None
    return 1 - len(pool.free_pages_N) / (pool.num_pages - 1)


def steps(incident: Incident) -> list[Any]:
    return [record for record in incident.ring if record.kind == "step"]


def leaves(value: object) -> Iterator[object]:
    """Every plain value in plain data, however deep. Names of fields are none."""
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def numbers(value: object) -> list[int | float]:
    """Every number in plain data."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, int | float) and not isinstance(leaf, bool)]
