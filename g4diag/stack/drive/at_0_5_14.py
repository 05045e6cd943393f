"""How 0.5.14's classes are driven on a CPU: what is not here is as in `at_0_5_15`.

A request counts what it prefills; a graph's metadata is all brought up outside of the graph.
"""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive import at_0_5_13, at_0_5_15

prefix_len, prefill_end, plan_graph = at_0_5_13.prefix_len, at_0_5_13.prefill_end, at_0_5_13.plan_graph


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_15, name)
