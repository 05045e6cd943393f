"""A draft's sliding layers hand their kernel one key less than they were built with."""

from __future__ import annotations

from g4diag.selftests.contract import Break
from g4diag.selftests.drives import frozen_draft


def _drive(broken: bool) -> None:
    draft = frozen_draft()
    for layer in draft.worker.draft_model_runner.model.modules():
        if broken and hasattr(layer, "layer_id") and getattr(layer, "sliding_window_size", -1) > 0:
            layer.sliding_window_size -= 1
    draft.eager()


SELFTEST = Break(
    name="window_is_the_models",
    how="The sliding layers of a draft say a window of one key less than they were built with.",
    drive=_drive,
)
