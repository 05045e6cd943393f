"""A draft that reads the target's frozen K/V writes none.

Inside the two frozen-KV views the draft's backend holds the target's pool: a layer that saves its K/V there, at write
locations that are the target's or left over from verify (see `eager_draft_out_cache_loc`), overwrites what the target
will read. Nothing faults; the target's answers change.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.model import KVWrite, Severity, Violation
from g4diag.traps.contract import Trap


def judge(write: KVWrite) -> Iterator[Violation]:
    """Any write in a view is one."""
    if write.inside:
        yield Violation(
            trap=TRAP.name,
            severity=Severity.ERROR,
            summary=f"{write.tokens} tokens of K/V were written to {write.pool} inside {write.inside}",
            worker="draft",
            phase=write.inside,
            layer_id=write.layer_id,
            count=1,
            checked=1,
        )


TRAP = Trap(
    name="draft_writes_no_kv",
    claim="While a draft reads the target's frozen K/V it writes no K/V to any pool.",
    without_it="The target's own K/V is overwritten: its answers change, and nothing faults.",
    cost="One Python call a K/V write, attributes only; no tensor is touched, and none inside a replay.",
    runs=("eager", "captured", "offline"),
    judges=KVWrite,
    judge=judge,
    group="frozen-draft",
    counts="write",
)
