"""sglang's own configurator gives the fork's pool sizes from one byte budget a model."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip(
    "sglang.srt.layers.attention.triton_ops", reason="the benchmark is of 0.5.13, whose kernels lie there"
)


@pytest.mark.parametrize(("index", "layers"), [(0, (20_480, 204_800)), (1, (81_920, 819_200))])
def test_one_budget_gives_both_ratios_to_the_token(index: int, layers: tuple[int, int]) -> None:
    pools = importlib.import_module("pools")
    model = pools.MODELS[index]
    made = pools.configurator(model, 0.8)
    per_token = (made._full_per_token * made._full_layers_num, made._swa_per_token * made._swa_layers_num)
    assert per_token == layers
    span = pools.common_budget(model)
    assert span is not None and span[0] == pytest.approx(model.budget, rel=1e-3)
    for ratio in model.reported:
        for budget in span:
            assert pools.divided(model, ratio, budget).errors == (0.0, 0.0)


def test_the_stated_budgets_are_within_a_thousandth_and_a_page() -> None:
    pools = importlib.import_module("pools")
    for model in pools.MODELS:
        for ratio in model.reported:
            row = pools.divided(model, ratio, model.budget)
            for found, wanted in zip((row.full, row.swa), row.reported, strict=True):
                assert abs(found - wanted) <= 1e-3 * wanted + (model.page_size if model.page_size > 1 else 0)
