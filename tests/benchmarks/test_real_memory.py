"""Pool sizes and memory fractions of the real geometries, by sglang 0.5.23's own classes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("sglang.kernels", reason="the benchmark is of 0.5.23")


@pytest.mark.parametrize(
    ("name", "budget", "pairs"),
    [
        ("26b", 109_478_041_600, {0.8: (593_956, 475_164), 0.15: (2_138_243, 320_736)}),
        ("31b", 98_052_341_760, {0.8: (132_992, 106_368), 0.15: (478_720, 71_808)}),
    ],
)
def test_the_forks_pools_come_of_one_budget_on_this_release_too(
    name: str, budget: int, pairs: dict[float, tuple[int, int]], tmp_path: Path
) -> None:
    memory, configs = importlib.import_module("real_memory"), importlib.import_module("real_configs")
    for ratio, wanted in pairs.items():
        assert memory.divided(configs.MODELS[name], tmp_path, ratio, budget) == wanted


def test_mm_disabled_gives_tokens_twice_over(tmp_path: Path) -> None:
    memory = importlib.import_module("real_memory")
    rows = {(row.machine, row.served): row for row in memory.ways(tmp_path)}
    assert len(rows) == 6
    for machine in ("H100", "H200"):
        released, off, patched = (rows[machine, way] for way in ("as released", "multimodal off", "mm-disabled"))
        # As the fork has it: 0.712 to 0.778, a ratio of 1.093.
        assert off.fraction / released.fraction == pytest.approx(1.093, abs=0.01) and patched.fraction == off.fraction
        assert released.full < off.full < patched.full and patched.weights < off.weights == released.weights
    one, two = rows["H200", "as released"], rows["H100", "as released"]
    assert one.weights == pytest.approx(2 * two.weights, rel=1e-6)
