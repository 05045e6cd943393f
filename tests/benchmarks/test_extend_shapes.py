"""The GPU benchmark's inputs and truth, on the CPU: sglang's kernel, interpreted, must agree with them."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip(
    "sglang.srt.layers.attention.triton_ops", reason="the benchmark is of 0.5.13, whose kernels lie there"
)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = importlib.import_module("extend_shapes")
    for name, value in {"DEVICE": "cpu", "HEADS": 2, "KV_HEADS": 1, "DIM": 32, "PAGE": 8}.items():
        monkeypatch.setattr(module, name, value)
    return module


def halves(given: dict[str, Any]) -> dict[str, Any]:
    """What the kernel multiplies, in float16: the interpreter's bf16 products are nonsense."""
    return {name: given[name].half() for name in ("q_extend", "k_extend", "v_extend", "k_buffer", "v_buffer")}


@pytest.mark.parametrize(
    ("extend", "prefix", "window", "verify"),
    [
        (40, 0, 0, False),
        (40, 0, 16, False),
        (10, 40, 0, False),
        (10, 40, 16, False),
        (4, 40, 0, True),
        (4, 40, 16, True),
    ],
)
def test_upstreams_kernel_agrees_with_the_truth(
    shapes: Any, extend: int, prefix: int, window: int, verify: bool
) -> None:
    from sglang.srt.layers.attention.triton_ops.extend_attention import extend_attention_fwd

    shape = shapes.Shape("x", 2, extend, prefix, window, verify)
    given = shapes.make_inputs(shape, seed=1)
    given |= {
        name: given[name].float() for name in given if name.startswith(("q_e", "k_e", "v_e", "k_b", "v_b", "o_e"))
    }
    extend_attention_fwd(**given)
    wanted = shapes.truth(shape, given, block=7)
    assert (given["o_extend"] - wanted).abs().max() / wanted.abs().max() < 1e-5


def test_the_mask_matters(shapes: Any) -> None:
    shape = shapes.Shape("x", 2, 4, 16, 0, True)
    mask = shapes.make_inputs(shape, 1)["custom_mask"].view(2, 4, 20)
    assert mask[..., :16].all() and not mask[:, 0, 17:].any() and mask[:, 3].all()


def test_shapes_of_one_kind_share_compiled_kernels() -> None:
    tile = importlib.import_module("extend_tile")
    jobs = tile.compile_jobs(list(tile.SIX), [], False)
    assert len(jobs) == 3 * 2 * 3, "plain, masked, masked and windowed; bf16 and fp32 output; three tiles"
    small = replace(tile.SIX[3].small, name="")
    assert (small.batch, small.extend) == (8, 4)
    swept = tile.compile_jobs(list(tile.BORDERS), list(tile.BORDERS), True)
    assert len(set((shape.window, shape.verify, config, fp32) for shape, config, fp32 in swept)) == len(swept)


def test_grids_are_small_without_doubles_and_hold_the_rule() -> None:
    grids, tile = importlib.import_module("extend_grid"), importlib.import_module("extend_tile")
    for grid in (grids.FEW_ROWS, grids.MANY_ROWS, grids.RULE_FEW, grids.RULE_MANY):
        assert len(set(grid)) == len(grid) <= 24
    for shape in (*tile.SIX, *tile.MORE, *tile.BORDERS):
        assert all(tile.chosen(shape) in grids.grid(shape, borders) for borders in (False, True)), shape


class LikeJit:
    """The interpreted kernel, its pre-run hooks called with all keywords, as the compiled one does."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.pre_run_hooks = kernel, list[Any]()

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            for hook in self.pre_run_hooks:
                hook(*args, **kwargs)
            self.kernel[grid](*args, **kwargs)

        return launch


def test_each_variant_is_checked_with_the_tile_it_stands_for(shapes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sglang.srt.layers.attention.triton_ops import extend_attention

    tile = importlib.import_module("extend_tile")
    monkeypatch.setattr(extend_attention, "_is_cuda", True)
    monkeypatch.setattr(extend_attention, "CUDA_CAPABILITY", (9, 0), raising=False)
    monkeypatch.setattr(extend_attention, "_fwd_kernel", LikeJit(extend_attention._fwd_kernel))
    monkeypatch.setattr(shapes, "DIM", 256)
    shape = shapes.Shape("x", 8, 2, 8, 0, True)
    given = shapes.make_inputs(shape, 1)
    given |= halves(given)
    wanted, rows = shapes.truth(shape, given), []
    for name in tile.VARIANTS:
        row = tile.Row(shape.name, name)
        with tile.variant(name):
            tile.check(row, given, wanted)
        rows.append(row)
    assert [row.launched for row in rows] == [tile.OLD, tile.STOCK, tile.chosen(shape)]
    assert tile.chosen(shape) == (16, 64, 8, 3)
    assert all(row.right for row in rows), rows
    with tile.forced((16, 32, 4, 3)):
        assert tile.launched(given) == (16, 32, 4, 3)


def test_a_wrong_output_and_an_unwritten_one_do_not_pass(shapes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = importlib.import_module("extend_tile")
    shape = shapes.Shape("x", 2, 4, 8, 0, True)
    given = shapes.make_inputs(shape, 1)
    wanted = shapes.truth(shape, given)
    for exact, rounded, right in ((1.0, 1.0, True), (1.01, 1.01, False), (1.0, 1.02, False), (1.0, None, False)):
        monkeypatch.setattr(tile, "launched", lambda given, o_extend, by=exact: o_extend.copy_(wanted * by))
        monkeypatch.setattr(tile, "attend", lambda given, by=rounded: by and given["o_extend"].copy_(wanted * by))
        row = tile.Row("x", "patch")
        tile.check(row, given, wanted)
        assert row.right is right and bool(row.problem) is not right
