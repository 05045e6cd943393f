"""What a speculative step carries on its batch."""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive.driver import driver


def eagle_draft() -> Any:
    """An EAGLE draft step's, with nothing in it."""
    from sglang.srt.speculative.eagle_info import EagleDraftInput

    return EagleDraftInput()


def eagle_extend(accepted_B: Any, accepted: list[int] | None, width: int) -> Any:
    """An EAGLE draft extend's. accepted_B: int64 [batch] tensor of tokens that each row was left with; accepted: the
    same on the host, None for padding only. width: tokens a row in a graph."""
    return driver().FIXTURES.eagle_extend(accepted_B, accepted, width)


def frozen_draft(rows: int) -> Any:
    """A frozen-KV draft's: zeros, int64 [rows] tokens and float32 [rows, 1] hidden states."""
    import torch
    from sglang.srt.speculative.frozen_kv_mtp_info import FrozenKVMTPDraftInput

    return FrozenKVMTPDraftInput(bonus_tokens=torch.zeros(rows, dtype=torch.int64), hidden_states=torch.zeros(rows, 1))
