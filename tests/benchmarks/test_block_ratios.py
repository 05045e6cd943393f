"""Ratios of decode steps by mode: intervals hold what is true in drifting steps, and a real effect is found."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
TRUE = {"none": 0.0, "page-table": 0.002, "all traps": 0.006, "all + recorder": 0.006}
BATCH = 700


def simulated(
    seed: int, cycles: int = 40, size: int = 50, noise: float = 0.03, drift: float = 0.01, jitter: float = 0.0
) -> tuple[list[dict[str, Any]], list[Any], list[int | None]]:
    """Blocks of steps that grow by 40 % along a batch, with noise of their own, a drift that fades in some two seconds,
    one rare long step in two hundred, and a time stamp that is early or late."""
    random, names = np.random.default_rng(seed), list(TRUE)
    count = cycles * len(names) * size
    shocks = random.normal(0, drift * np.sqrt(1 - np.exp(-0.02)), count)
    slow = np.zeros(count)
    for index in range(1, count):
        slow[index] = slow[index - 1] * np.exp(-0.01) + shocks[index]
    rows = np.arange(count)
    stamps = random.normal(0, jitter, count + 1)
    grown = np.log(1 + 0.4 * (rows % BATCH) / BATCH)
    long_ones = np.where(random.random(count) < 0.005, random.exponential(1, count), 0)
    values = grown + slow + random.normal(0, noise, count) + long_ones
    blocks, steps, begun = [], [], list[int | None]()
    for number in range(cycles * len(names)):
        if number % len(names) == 0:
            order = [str(name) for name in random.permutation(names)]
        mode, first = order[number % len(names)], number * size
        mine = slice(first + 3, first + size)
        blocks.append({"mode": mode, "cycle": number // len(names), "first": first, "end": first + size})
        steps.append(20_000 * (np.exp(values[mine] + TRUE[mode]) + np.diff(stamps)[mine]))
        begun.append(first // BATCH * BATCH if first // BATCH == (first + size - 1) // BATCH else None)
    return blocks, steps, begun


@pytest.mark.parametrize("drift", [0.0, 0.02])
def test_intervals_cover_what_is_true_about_nineteen_times_in_twenty(drift: float) -> None:
    module = importlib.import_module("block_ratios")
    held: dict[str, list[bool]] = {kind: [] for kind in ("median", "typical")}
    widths: dict[str, list[float]] = {kind: [] for kind in held}
    for seed in range(40):
        table = module.ratios(*simulated(seed, drift=drift), resamples=200)
        for row in table[1:]:
            for kind, found in held.items():
                low, high = row[f"{kind}_low"], row[f"{kind}_high"]
                found.append(low <= np.exp(TRUE[row["mode"]]) <= high)
                widths[kind].append(high - low)
    for found in held.values():  # 120 intervals, three of a run not independent
        assert 0.88 <= np.mean(found) <= 0.995
    assert np.mean(widths["typical"]) < 0.9 * np.mean(widths["median"])


def test_a_real_effect_is_found_and_none_is_not() -> None:
    module = importlib.import_module("block_ratios")
    table = {row["mode"]: row for row in module.ratios(*simulated(1, cycles=85, noise=0.01), resamples=300)}
    for kind in ("median", "typical"):
        assert table["all traps"][f"{kind}_low"] > 1.002
        assert table["none"][kind] == table["none"][f"{kind}_low"] == 1.0


def test_noise_says_what_would_help() -> None:
    module = importlib.import_module("block_ratios")
    alone = module.noise(*simulated(2, drift=0.0))
    assert alone["own"] == pytest.approx(alone["median"], rel=0.2) and abs(alone["neighbours"]) < 0.25
    drifting = module.noise(*simulated(2, noise=0.01, drift=0.02))
    assert drifting["median"] > 3 * drifting["own"] and drifting["neighbours"] > 0.3
    stamped = module.noise(*simulated(2, noise=0.001, drift=0.0, jitter=0.04))
    assert stamped["typical"] < 0.5 * stamped["median"]


def test_a_change_that_has_not_settled_is_seen() -> None:
    module = importlib.import_module("block_ratios")
    blocks, steps, begun = simulated(4, noise=0.005, drift=0.0)
    slow = [row * np.where(np.arange(len(row)) < 5, 1.05, 1) for row in steps]
    late = [b if block["mode"] == "all traps" else a for block, a, b in zip(blocks, steps, slow, strict=True)]
    found = module.settling(blocks, late, begun)
    assert 0.04 < found["all traps"] < 0.06 and abs(found["none"]) < 0.01


def test_runs_are_pooled_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, script = importlib.import_module("block_ratios"), importlib.import_module("trap_blocks")
    runs = [simulated(seed, cycles=12) for seed in (5, 6)]
    for name, (blocks, steps, begun) in zip("ab", runs, strict=True):
        (tmp_path / f"{name}.json").write_text(json.dumps({"blocks": blocks, "begun": begun}))
        np.savez_compressed(tmp_path / f"{name}.npz", **{str(index): row for index, row in enumerate(steps)})
    read = [script.read(tmp_path / name) for name in "ab"]
    blocks, steps, begun = module.pooled(read)
    assert len({block["cycle"] for block in blocks}) == 24 and len(steps) == len(begun) == 96
    assert len({start for start in begun if start is not None}) == 2 * len({s for s in runs[0][2] if s is not None})
    alone, both = (
        {row["mode"]: row for row in module.ratios(*rows, resamples=200)} for rows in (runs[0], (blocks, steps, begun))
    )
    width = [row["all traps"]["typical_high"] - row["all traps"]["typical_low"] for row in (alone, both)]
    assert width[1] < 0.9 * width[0]
    assert set(script.show(blocks, steps, begun)) == {"summary", "noise", "settling"}
    said = capsys.readouterr().out
    assert "widest interval" in said and "wanted: 0.3" in said


def test_too_little_is_an_error() -> None:
    module = importlib.import_module("block_ratios")
    with pytest.raises(ValueError, match="in two cycles each, found 4 whole blocks"):
        module.ratios(*simulated(3, cycles=1))
    with pytest.raises(ValueError, match="found 0 whole blocks"):
        module.noise([], [], [])
