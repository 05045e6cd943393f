"""Of a prefix that a cache has for a request, every key in the window of the request's next token has its SWA slot.

A prefix cache keeps full K/V longer than SWA K/V: a node that gave up its SWA half is a tombstone, and a match may end
only where a whole window of keys lies behind the last one. A tombstone that is not marked, or not looked at, hands the
request a prefix whose window reads the dummy page. `page_in_window_is_mapped` tells when a layer reads it; this one
tells when the cache says it, and which cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from g4diag.model import IndexSpace, PrefixMatch, Severity, Violation
from g4diag.traps.contract import Trap


def judge(match: PrefixMatch) -> Iterator[Violation]:
    """One violation a match, at its first key in the window without an SWA slot."""
    bad_N = match.mapped_N <= 0
    if not bad_N.any():
        return
    at = int(np.flatnonzero(bad_N)[0])
    yield Violation(
        trap=TRAP.name,
        severity=Severity.ERROR,
        summary=f"{match.cache} matched {match.tokens} tokens, and of the last {len(bad_N)}, which the window holds, "
        f"{int(bad_N.sum())} have no SWA slot; the first is full slot {int(match.full_slots_N[at])}",
        phase="match_prefix",
        column=at,
        value=int(match.mapped_N[at]),
        value_space=IndexSpace.SWA_SLOT,
        expected_space=IndexSpace.SWA_SLOT,
        count=int(bad_N.sum()),
        checked=len(bad_N),
    )


def needs(match: PrefixMatch) -> str:
    """A match of at least a token."""
    return "" if len(match.full_slots_N) else "a match"


TRAP = Trap(
    name="matched_prefix_is_mapped",
    claim="In a prefix that a cache matched, every key in the next token's window has an SWA slot.",
    without_it="A request goes on behind a prefix whose window reads the dummy page: wrong answers, no fault.",
    cost="At most 4 matches a step: a gather of one window's slots, which come to the host in the step's one copy.",
    runs=("eager", "offline"),
    judges=PrefixMatch,
    judge=judge,
    group="allocator",
    needs=needs,
)
