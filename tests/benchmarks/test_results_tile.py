"""The markdown says what the JSON holds, of a run with a sweep and of one without, and never hides a wrong tile."""

from __future__ import annotations

import importlib
from typing import Any

NAN = float("nan")


def row(variant: str, us: float, tile: tuple[int, ...], right: bool = True) -> dict[str, Any]:
    problem = "" if right else "wrong: error 1.0"
    about = {"shape": "verify bs32 ext4 pre64", "variant": variant, "launched": list(tile), "error": 1e-3}
    return about | {"us": us, "rounds": [us, us * 1.1] if us == us else [], "right": right, "problem": problem}


def content(right: bool = True) -> dict[str, Any]:
    stock = [row("older stock", 100.0, (128, 64, 8, 1)), row("0.5.13", 40.0, (64, 64, 8, 1))]
    return {
        "machine": {"gpu": "a GPU", "command": "x.py --more"},
        "rows": [*stock, row("patch", 20.0, (16, 64, 4, 3), right)],
        "host_us": {"0.5.13": 70.0, "patch": 90.04},
    }


def test_the_three_tiles_stand_beside_the_forks() -> None:
    text = importlib.import_module("results_tile").markdown(content())
    line = next(line for line in text.splitlines() if line.startswith("| verify"))
    assert line.startswith(
        "| verify bs32 ext4 pre64 | 100.00 | 40.00 | 20.00 | 16,64 w4 s3 | 5.00 | 4.25 | 22.10 | 2.00 |"
    )
    assert "gpu: a GPU:\n\n    x.py --more" in text and "patch 90.0" in text and "tiles timed" not in text


def test_a_sweep_says_how_far_the_rules_tile_is_from_the_best() -> None:
    tried = [row("sweep", 16.0, (16, 32, 4, 3)), row("sweep", 20.0, (16, 64, 4, 3)), row("sweep", NAN, (32, 32, 4, 2))]
    text = importlib.import_module("results_tile").markdown(content() | {"sweep": tried})
    assert "| 2 | 16,32 w4 s3: 16.00 | 16,64 w4 s3: 20.00 | - | 16,64 w4 s3, +25 % |" in text


def test_a_wrong_tile_shows() -> None:
    assert "WRONG wrong: error 1.0" in importlib.import_module("results_tile").markdown(content(right=False))


def test_rates_count_what_the_window_leaves() -> None:
    shapes = importlib.import_module("extend_shapes")
    full, windowed = shapes.Shape("x", 2, 3, 10), shapes.Shape("x", 2, 3, 10, window=4)
    a_pair = 4 * shapes.DIM * shapes.HEADS
    assert full.flops == a_pair * 2 * (11 + 12 + 13)
    assert windowed.kept == 3 and windowed.flops == a_pair * 2 * (4 + 5 + 5)
    assert full.bytes_touched - windowed.bytes_touched == 2 * 7 * 2 * shapes.KV_HEADS * shapes.DIM * 2
