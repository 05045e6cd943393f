"""Hooks where each backend hands a layer its table: what is seen there, and what goes on, is what the kernel reads.

A method that returns the table is one place. Where a forward calls its kernel with the table, the call is the other,
and the forward around it says whose it is. A kernel that the backend keeps as an attribute of itself is called through
us while the forward lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.stack.backends.contract import Attention, KernelCall, hook
from g4diag.stack.probes.forwards import Forwards
from g4diag.stack.probes.workers import Backends

# (whose file describes the backend, backend, layer, forward batch, table) -> the table to hand on.
Observe = Callable[[Attention, Any, Any, Any, Any], Any]


def table_hooks(backends: Backends, observe: Observe) -> list[Hook]:
    """Of every backend. What `observe` returns is handed on; it must not raise. A backend that inherits a hooked method
    from another is seen by its own file's hook alone."""
    forwards = Forwards(tuple(attention for attention in backends.attentions if attention.calls))

    def returning(attention: Attention) -> Callable[..., Any]:
        def around(original: Any, backend: Any, layer: Any, forward_batch: Any) -> Any:
            table = original(backend, layer, forward_batch)
            if backends.described(backend) is not attention:
                return table
            return observe(attention, backend, layer, forward_batch, table)

        return around

    def called(call: KernelCall, attention: Attention) -> Callable[..., Any]:
        def around(original: Any, *args: Any, **kwargs: Any) -> Any:
            forward, table = forwards.now, call.table(*args, **kwargs)
            if forward is None or table is None or backends.described(forward.backend) is not attention:
                return original(*args, **kwargs)
            table = observe(attention, *forward, table)
            args, kwargs = call.handing(table, args, kwargs)
            with call.placing(table, *args, **kwargs):
                return original(*args, **kwargs)

        return around

    def within(kept: tuple[KernelCall, ...], attention: Attention) -> Callable[..., Any]:
        def around(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
            with _through(backend, {call.attribute: called(call, attention) for call in kept}):
                return original(backend, *args, **kwargs)

        return around

    hooks = forwards.hooks()
    for each in backends.attentions:
        if each.table is not None:
            hooks.append(hook(each.table, "around", returning(each)))
        here = each.calls_here()
        hooks += [
            hook(call.point, "before", _pinned) if call.attribute else hook(call.point, "around", called(call, each))
            for call in here
            if call.point is not None
        ]
        if kept := tuple(call for call in here if call.attribute):
            hooks += [hook(point, "around", within(kept, each)) for point in each.forwards]
    return hooks


def _pinned(*args: Any, **kwargs: Any) -> None:
    """Sees nothing: hooking it holds the parameters that we unpack against those it has."""


@contextmanager
def _through(backend: Any, arounds: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """For the body, calls of these attributes of the backend go through `arounds`."""
    own = vars(backend)
    originals = {name: own[name] for name in arounds if name in own}

    def calling(name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: arounds[name](originals[name], *args, **kwargs)

    ours = {name: calling(name) for name in originals}
    own.update(ours)
    try:
        yield
    finally:
        own.update({name: originals[name] for name in originals if own.get(name) is ours[name]})
