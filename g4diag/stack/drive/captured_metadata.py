"""What a CUDA graph keeps of an attention backend, for the closures that stand for graphs on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def on_captured_metadata(attention: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    """`run` on the metadata that the backend, and those below a wrapper or of a draft's steps, have now: a replay's
    kernels read the buffers of their capture, whatever the backend planned since."""
    kept = [(each, each.forward_metadata) for each in _with_metadata(attention)]

    def replayed() -> Any:
        for each, metadata in kept:
            each.forward_metadata = metadata
        return run()

    return replayed


def _with_metadata(attention: Any) -> Iterator[Any]:
    below = (getattr(attention, name, None) for name in ("prefill_backend", "decode_backend"))
    steps = getattr(attention, "attn_backends", ())
    yield from (each for each in (attention, *below, *steps) if hasattr(each, "forward_metadata"))
