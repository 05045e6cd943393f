"""Words that every form of report uses alike."""

from __future__ import annotations

from typing import Any

from g4diag.model import IndexSpace


def unit(data: dict[str, Any]) -> str:
    """What one id of a finding's table is: "page" or "slot"."""
    return IndexSpace(data["expected_space"]).unit


def layer(data: dict[str, Any]) -> str:
    """A layer by its number, where the file tells it, and its kind, of a finding's data."""
    number = f"layer {data['layer_id']}" if data["layer_id"] >= 0 else "a layer of unknown number"
    return f"{number} ({data['layer_kind']})"
