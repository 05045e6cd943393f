"""How 0.5.14's classes are driven on a CPU: what is not here is as in `at_0_5_15`.

A hybrid pool is still told whether its caches are transposed; a request counts what it prefills; a graph's metadata is
all brought up outside of the graph.
"""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import at_0_5_13, at_0_5_15

_AS_BEFORE = frozenset({"SWA_POOL_ARGUMENTS", "plan_graph", "prefill_end", "prefix_len"})


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_13 if name in _AS_BEFORE else at_0_5_15, name)
