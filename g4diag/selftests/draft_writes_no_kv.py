"""K/V is written to the target's pool while the draft has it in its view; outside of it the same write is silent."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft, target_view


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    draft.eager()
    with target_view(draft) if broken else nullcontext():
        _write(draft.serving)


def _write(serving: Any) -> None:
    """One token's zeros, at the first slot of a page, in a sliding layer."""
    import torch

    kv = torch.zeros(1, serving.config.num_key_value_heads, serving.config.head_dim)
    slot = torch.tensor([serving.geometry.page_size])
    layer = serving.config.layer_types.index("sliding_attention")
    swa_slot = serving.kv_pool.translate_loc_from_full_to_swa(slot)
    serving.kv_pool.set_kv_buffer(SimpleNamespace(layer_id=layer), slot, kv, kv, swa_loc=swa_slot)


SELFTEST = Break(
    name="draft_writes_no_kv",
    how="A token's K/V is written to the target's pool inside frozen_kv_target_view.",
    drive=_drive,
    unseen=True,
)
