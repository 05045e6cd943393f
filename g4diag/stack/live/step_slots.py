"""Which of its batch's slots a drafting step of EAGLE writes to.

Their graph's batch has those of all steps; sglang cuts them by step in one function, and each step's forward is handed
a part. What a whole batch was told is cut by the same function here. A part that is not known for one is of no step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.stack.releases import current

_CUT, _FORWARD = "draft.step_slots", "runner.forward"


class StepSlots:
    """S: steps. N: tokens of one. Of the batch that was cut last, while it drafts."""

    def __init__(self) -> None:
        self._parts_SN: Any = None
        self._cut: Callable[[Any], Any] = lambda slots_M: None
        self._step: int | None = None

    def hooks(self) -> list[Hook]:
        """Where the slots are cut, and every forward. None in a release that has no such function."""
        release = current()
        if not release.has(_CUT):
            return []
        return [release.hook(_CUT, "around", self._cuts), release.hook(_FORWARD, "around", self._within)]

    def is_one(self, tokens: int) -> bool:
        """Whether the forward at work is a step, and writes so many tokens."""
        return self._step is not None and tokens == self._parts_SN.shape[1]

    def of(self, slots_M: Any) -> Any:
        """int64 [N]: what the forward at work writes to of the slots of a whole batch, the first of `slots_M`; not a
        copy. None where that has not as many."""
        total = self._parts_SN.numel()
        return self._cut(slots_M[:total])[self._step] if total <= len(slots_M) else None

    def _cuts(self, original: Any, slots_M: Any, *args: Any, **kwargs: Any) -> Any:
        parts_SN = original(slots_M, *args, **kwargs)
        self._parts_SN, self._cut = parts_SN, lambda others_M: original(others_M, *args, **kwargs)
        return parts_SN

    def _within(self, original: Any, runner: Any, forward_batch: Any, *args: Any, **kwargs: Any) -> Any:
        if self._parts_SN is None:
            return original(runner, forward_batch, *args, **kwargs)
        with guard("telling which of a draft's steps it is"):
            self._step = _step_of(forward_batch.out_cache_loc, self._parts_SN)
        try:
            return original(runner, forward_batch, *args, **kwargs)
        finally:
            self._step = None


def _step_of(slots_N: Any, parts_SN: Any) -> int | None:
    """Which row of `parts_SN` it is: the same memory, or that of a contiguous copy of all, which some models ask
    for."""
    steps, tokens = parts_SN.shape
    if slots_N is None or tokens == 0 or slots_N.shape != (tokens,) or slots_N.dtype != parts_SN.dtype:
        return None
    if slots_N.untyped_storage().data_ptr() == parts_SN.untyped_storage().data_ptr():
        first, apart, stride = (
            slots_N.storage_offset() - parts_SN.storage_offset(),
            parts_SN.stride(0),
            parts_SN.stride(1),
        )
    elif slots_N.untyped_storage().nbytes() == parts_SN.numel() * slots_N.element_size():
        first, apart, stride = slots_N.storage_offset(), tokens, 1
    else:
        return None
    step, left = divmod(first, apart)
    is_row = not left and 0 <= step < steps and (tokens == 1 or slots_N.stride(0) == stride)
    return step if is_row else None
