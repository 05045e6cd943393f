"""An attention backend's SWA state belongs to the pool it is about to read.

The root cause of the frozen-KV SWA bug, one step before any table is built: `frozen_kv_target_view` and
`target_kv_pool_view` swap `token_to_kv_pool`, and the SWA pool the backend resolved in its constructor stays
behind; the graph runner sizes its table buffers outside both views. The other side (sglang #25103): a draft
that reads its own full-only pool must have no SWA state. A frozen-KV draft may hold the target's SWA state at
rest (that is what 0.5.13 does); what counts is the state while it reads, and that leaving restores exactly.
Below a hybrid wrapper it is the child that reads: views that swap the wrapper's pool and not the child's leave the
child with the draft's own, which is a claim broken too.
"""

from __future__ import annotations

from collections.abc import Iterator

from g4diag.model import PoolSwap, Severity, Violation
from g4diag.traps.contract import Trap


def judge(swap: PoolSwap) -> Iterator[Violation]:
    """At most one violation a swap edge."""
    if problem := _problem(swap):
        yield Violation(
            trap=TRAP.name,
            severity=Severity.ERROR,
            summary=f"{swap.site} ({swap.moment}): {problem}",
            backend=swap.backend,
            count=1,
            checked=1,
        )


def _problem(swap: PoolSwap) -> str | None:
    if swap.moment == "exit":
        if swap.before is not None and (swap.read_pool, swap.swa_state) != swap.before:
            pool, state = swap.before
            return f"left ({swap.read_pool}, SWA state {swap.swa_state}), found ({pool}, SWA state {state}) on entry"
        return None
    if swap.wanted_pool is not None and swap.read_pool != swap.wanted_pool:
        return f"it will read {swap.read_pool}, where {swap.wanted_pool} is to be read"
    if swap.read_pool_is_swa and swap.swa_state != swap.read_pool:
        return f"it will read {swap.read_pool}, but its SWA state is of {swap.swa_state or 'no pool'}"
    if not swap.read_pool_is_swa and not swap.frozen_kv and swap.swa_state is not None:
        return f"it reads its own {swap.read_pool}, yet its tables are translated for {swap.swa_state}"
    if swap.graph_swa_tables is not None and swap.graph_swa_tables != (swap.swa_state is not None):
        return f"SWA state is of {swap.swa_state}, SWA page-table buffers present: {swap.graph_swa_tables}"
    return None


TRAP = Trap(
    name="swa_state_follows_pool",
    claim="While a backend reads an SWA pool its SWA state is of that pool, and a pool swap restores both exactly.",
    without_it="Page tables are built in the wrong index space for every sliding layer of the draft.",
    cost="A few attribute reads an edge, on the host; no tensor is touched.",
    runs=("eager", "captured", "offline"),
    judges=PoolSwap,
    judge=judge,
    group="swa-state",
)
