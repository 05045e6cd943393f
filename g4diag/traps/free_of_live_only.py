"""What is given back to an allocator was handed out, and is given back once.

A second free puts the page on the free list twice, and two requests get it later: the cause of which
`slot_has_one_owner` sees the effect. A free of the dummy page hands out padding's own page. A deferred free (free
group) counts where it takes effect, at the group's end; a paged allocator folds doubles in one call, an unpaged does
not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import Release, Violation
from g4diag.model.allocator_calls import FEW
from g4diag.traps.contract import Trap
from g4diag.traps.slots import all_differ, repeated, violation_in_call


def judge(release: Release) -> Iterator[Violation]:
    """One violation a release, at the first id that is not live."""
    pool, slots_N = release.pool, release.slots_N
    if _all_are_live(release) and (pool.page_size > 1 or all_differ(slots_N)):
        return
    pages_N = slots_N // pool.page_size
    bad_N = ~np.isin(pages_N, release.live_pages_N)
    how = "which was not live"
    if pool.page_size == 1 and not bad_N.any():
        bad_N, how = repeated(slots_N), "twice in one call"
    if bad_N.any():
        yield violation_in_call(TRAP.name, pool, "free", slots_N, bad_N, f"{pool.name} slot {{id}} was freed, {how}")


def _all_are_live(release: Release) -> bool:
    """The healthy case, told without a sort."""
    page, slots_N = release.pool.page_size, release.slots_N
    if len(slots_N) <= FEW:
        pages = {slot // page for slot in slots_N.tolist()}
    else:
        pages_N = slots_N // page
        pages = set(pages_N[np.flatnonzero(np.diff(pages_N, prepend=-1))].tolist())
    return pages <= set(release.live_pages_N.tolist())


TRAP = Trap(
    name="free_of_live_only",
    claim="Only what is live is given back to an allocator, and once.",
    without_it="The free list holds a page twice, and two requests are given it later.",
    cost="One look-up a freed slot on the host; live, one copy of them, judged when it has arrived.",
    runs=("eager", "offline"),
    judges=Release,
    judge=judge,
    group="allocator",
)
