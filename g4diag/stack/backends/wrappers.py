"""Backends that hand a forward on to another: which of those below read, and which one a forward's mode chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Knows = Callable[[Any], bool]


def readers(backend: Any, knows: Knows) -> Iterator[tuple[str, Any]]:
    """(name, backend) of each known backend at or below `backend`. A wrapper is known by its type alone:
    TRTLLMHAAttnBackend inherits a string attribute `decode_backend`."""
    from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend

    if isinstance(backend, HybridAttnBackend):
        for child in {id(child): child for child in (backend.prefill_backend, backend.decode_backend)}.values():
            yield from ((f"{type(backend).__name__}>{name}", reader) for name, reader in readers(child, knows))
    elif knows(backend):
        yield type(backend).__name__, backend


def chosen(backend: Any, forward_batch: Any, knows: Knows) -> list[tuple[str, Any]]:
    """The readers that this forward's mode chooses below a wrapper; the others may be in any state."""
    found, name = backend, ""
    while hasattr(found, "_select_backend"):
        name += f"{type(found).__name__}>"
        found = found._select_backend(forward_batch.forward_mode)
    return [(name + below, reader) for below, reader in readers(found, knows)]
