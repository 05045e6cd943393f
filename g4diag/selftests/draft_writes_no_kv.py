"""K/V is written to the target's pool while the draft has it in its view; outside of it the same write is silent."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft
from g4diag.stack.drive.frozen_worker import target_view
from g4diag.stack.drive.swa_pool import write_zeros


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    draft.eager()
    with target_view(draft.worker) if broken else nullcontext():
        _write(draft.serving)


def _write(serving: Any) -> None:
    """One token's zeros, at the first slot of a page, in a sliding layer."""
    layer, slot = serving.config.layer_types.index("sliding_attention"), serving.geometry.page_size
    write_zeros(serving.kv_pool, layer, slot, serving.config.num_key_value_heads, serving.config.head_dim)


SELFTEST = Break(
    name="draft_writes_no_kv",
    how="A token's K/V is written to the target's pool inside frozen_kv_target_view.",
    drive=_drive,
    unseen=True,
)
