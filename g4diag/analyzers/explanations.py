"""What a wrong page table could be instead, and how many live entries each such reading explains.

Exact readings predict every id (full ids, slots, another row). Readings by shape only say where the wrong ids stand.
"""

from __future__ import annotations

import numpy as np

from g4diag.analyzers.once import once
from g4diag.analyzers.reading import Explanation, Live
from g4diag.analyzers.readings_by_shape import by_geometry, by_place
from g4diag.analyzers.readings_by_value import by_value
from g4diag.analyzers.tables import bad_BP, live_entries
from g4diag.model import AttentionRead, Incident

_ENOUGH = 0.9
_MARGIN = 0.25


@once
def explanations(read: AttentionRead, incident: Incident) -> tuple[Explanation, ...]:
    """Every reading that explains at least one entry, best first. None without live entries."""
    row_L, column_L, id_L = live_entries(read)
    at = row_L, column_L
    expected_BP, full_BP = read.expected_BP(), read.full_page_table_BP
    live = Live(
        read,
        row_L,
        column_L,
        id_L,
        bad_BP(read)[at],
        None if expected_BP is None else expected_BP[at],
        None if full_BP is None else full_BP[at].astype(np.int64),
    )
    found = [*by_place(live)]
    found += list(by_value(live, incident)) if expected_BP is not None else []
    found += by_geometry(live) if expected_BP is None else []
    return tuple(sorted((one for one in found if one.explained), key=_rank))


def _rank(one: Explanation) -> tuple[float, float, bool]:
    return -one.share_of_bad, -one.share, not one.exact


def winner(ranked: tuple[Explanation, ...]) -> Explanation | None:
    """The one reading that is clearly best: nearly all entries, and on the bad ones well before the next of its sort.

    An exact reading needs no lead over one that only looks at the shape. One that predicts the right ids wherever it
    explains an entry is no explanation of what is wrong: the two numberings agree there."""
    if not ranked or min(ranked[0].share, ranked[0].share_of_bad) < _ENOUGH or ranked[0].telling == 0:
        return None
    best = ranked[0]
    close = [other for other in ranked[1:] if other.share_of_bad > best.share_of_bad - _MARGIN]
    return None if any(other.exact >= best.exact for other in close) else best
