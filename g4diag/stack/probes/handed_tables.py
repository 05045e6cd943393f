"""Hooks where each backend hands a layer its table: what is seen there, and what goes on, is what the kernel reads.

A method that returns the table is one place. Where a forward calls its kernel with the table, the call is the other,
and the forward around it says whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.stack.backends.contract import Attention, hook
from g4diag.stack.probes.forwards import Forwards

# (backend, layer, forward batch, table) -> the table to hand on.
Observe = Callable[[Any, Any, Any, Any], Any]


def table_hooks(attentions: Iterable[Attention], observe: Observe) -> list[Hook]:
    """Of every backend. What `observe` returns is handed on; it must not raise."""
    calling = tuple(attention for attention in attentions if attention.argument)
    forwards = Forwards(calling)

    def returned(original: Any, backend: Any, layer: Any, forward_batch: Any) -> Any:
        return observe(backend, layer, forward_batch, original(backend, layer, forward_batch))

    def called(argument: str) -> Callable[..., Any]:
        def around(original: Any, *args: Any, **kwargs: Any) -> Any:
            forward, table = forwards.now, kwargs.get(argument)
            if forward is None or table is None:
                return original(*args, **kwargs)
            return original(*args, **kwargs | {argument: observe(*forward, table)})

        return around

    return [
        *forwards.hooks(),
        *(hook(each.table, "around", called(each.argument) if each.argument else returned) for each in attentions),
    ]
