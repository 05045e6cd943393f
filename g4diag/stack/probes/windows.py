"""The windows of a model's sliding layers, as they were built, and the window that its K/V cache keeps."""

from __future__ import annotations

from typing import Any

from g4diag.model import Windows


def windows_of(runner: Any) -> dict[Any, Windows]:
    """By the attention layer of the runner's model that has it; none for a model without a window, or whose layers
    cannot be walked. Host attributes only."""
    kept, modules = (
        getattr(runner, "sliding_window_size", None),
        getattr(getattr(runner, "model", None), "modules", None),
    )
    if not isinstance(kept, int) or kept < 0 or modules is None:
        return {}
    built = {layer: window for layer in modules() if (window := _window(layer)) is not None}
    widest = max(built.values(), default=-1)
    return {layer: Windows(kept, window, widest) for layer, window in built.items()}


def _window(layer: Any) -> int | None:
    """Of a layer that hands it to a kernel: it knows its number."""
    window = getattr(layer, "sliding_window_size", None)
    if not hasattr(layer, "layer_id") or not isinstance(window, int) or window < 0:
        return None
    return window
