"""The benchmark of the device check finds each claim broken where it breaks it, and none where it does not."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch

from g4diag.stack.kernels.claims import CLAIMS


@pytest.mark.parametrize("shape", [(4, 6, 64), (3, 40, 1)])
def test_every_claim_once(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = importlib.import_module("page_table_check")
    launched = 0

    def once(run: Callable[[], None]) -> float:
        nonlocal launched
        launched += 1
        run()
        return 1.0

    monkeypatch.setattr(bench, "replayed", once)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    world = bench.world(*shape)
    rows, alarms = bench.costs(world, shape)
    assert alarms == 0 and len(rows) == 2 * len(bench.JUDGED) + 3
    assert bench.faults(world, shape[1]) == 0 and launched == len(rows) + len(CLAIMS)
    monkeypatch.setattr(bench, "JUDGED", bench.JUDGED | {"all in graphs": frozenset()})
    assert bench.faults(world, shape[1]) > 0, "a check that judges nothing is told"
