"""What the server benchmarks read out of logs and clocks, and the table they make of it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LINE = (
    "[2026] g4diag violation trap=page_table_stays_in_pool severity=error layer=4 row=0 column=60 value=512 "
    'low=0 bound=469 dump=x.pt summary="page 512 is outside the swa pool of 469 pages"'
)


def test_log_readings() -> None:
    servers = importlib.import_module("servers")
    retract = "KV cache pool is full. Retract requests. #retracted_reqs: 2, #new_tokens_gained: 64, #new_token_ratio: 1"
    text = f"a\n{LINE}\n{retract}\n{retract}\ng4diag.errors.TrapTripped: layer 4 row 0\nchecks=5 checks=7 launches=3\n"
    (found,) = servers.violations(text)
    assert found.startswith("g4diag violation trap=") and servers.not_named(found) == []
    assert servers.tripped(text) == "TrapTripped: layer 4 row 0" and servers.tripped("fine") == ""
    assert servers.not_named("TrapTripped: layer 4 row 0") == ["entry", "value", "bound"]
    assert servers.retractions(text) == 4 and servers.last_counters(text) == {"checks": 7, "launches": 3}


def test_steps_are_between_decode_batches_of_the_largest_size() -> None:
    servers = importlib.import_module("servers")
    rows = [(0, 0, 4)] + [(1_000_000 + 2000 * i, 1, 32) for i in range(25)] + [(9_000_000, 0, 1), (9_900_000, 1, 33)]
    read = servers.step_times(rows)
    assert (read["steps"], read["batch"], read["median_us"]) == (24, 32, 2.0)
    assert servers.step_times(rows[:5]) == {"steps": 0}


def test_the_clock_writes_what_is_read(tmp_path: Path) -> None:
    servers, clock = importlib.import_module("servers"), importlib.import_module("step_clock")
    path = tmp_path / "steps.i64"
    assert servers.read_clock(path) == (0, -1, [])
    hook = clock.Clock(str(path))
    for size in (3, 5):
        hook.after(SimpleNamespace(forward_mode=SimpleNamespace(is_decode=lambda: True), reqs=[0] * size), None)
    hook.after(None, None)
    count, launches, rows = servers.read_clock(path, 1)
    assert (count, launches, [row[1:] for row in rows]) == (2, -1, [(1, 5)])


def test_ratios_are_against_the_same_round_and_batch() -> None:
    overhead = importlib.import_module("trap_overhead")

    def row(config: str, number: int, us: float, batch: int = 32) -> dict[str, object]:
        about = {"shape": "tiny", "config": config, "base": "nothing", "round": number}
        return about | {"steps": 99, "batch": batch, "median_us": us}

    readings = [row("nothing", 0, 100.0), row("x", 0, 101.0), row("nothing", 1, 200.0), row("x", 1, 206.0)]
    readings += [row("x", 2, 1.0), row("nothing", 2, 5.0, batch=8), row("dead", 0, 0.0) | {"steps": 0}]
    base, other, dead = overhead.summary(readings)
    assert base["ratio"] == 1.0 and (other["ratio"], other["ratio_low"], other["ratio_high"]) == (1.02, 1.01, 1.03)
    assert dead == {"shape": "tiny", "config": "dead", "rounds": 0}


def full_heads(text: dict[str, Any]) -> set[tuple[int, int]]:
    """(K/V heads, head_dim) of the full layers, as transformers 5.8 and 5.19 write them down."""
    layers = [index for index, kind in enumerate(text["layer_types"]) if kind == "full_attention"]
    if "per_layer_config" not in text:
        assert text["attention_k_eq_v"], "or they have the sliding layers' heads"
        return {(text["num_global_key_value_heads"], text["global_head_dim"])}
    of_layer = {int(index): row for index, row in text["per_layer_config"].items()}
    rows = [text | of_layer.get(index, {}) for index in layers]
    return {(row["num_key_value_heads"], row["head_dim"]) for row in rows}


def test_the_big_shape_has_the_layers_and_heads_it_says(tmp_path: Path) -> None:
    servers = importlib.import_module("servers")
    models = servers.big_models(tmp_path, 3072)
    target = json.loads(Path(models["model_path"], "config.json").read_text())["text_config"]
    draft = json.loads(Path(models["speculative_draft_model_path"], "config.json").read_text())
    assert target["layer_types"].count("sliding_attention") == 25 and target["num_hidden_layers"] == 30
    assert (target["hidden_size"], target["num_key_value_heads"]) == (2816, 8)
    assert full_heads(target) == full_heads(draft["text_config"]) == {(2, 256)}
    assert draft["backbone_hidden_size"] == 2816 and draft["text_config"]["num_kv_shared_layers"] == 4


def test_the_pair_with_experts_is_the_real_geometry_over_heads_of_256(tmp_path: Path) -> None:
    pair = importlib.import_module("expert_pair")
    models = pair.models(tmp_path)
    target = json.loads(Path(models["model_path"], "config.json").read_text())["text_config"]
    draft = json.loads(Path(models["speculative_draft_model_path"], "config.json").read_text())
    assert (target["num_experts"], target["top_k_experts"], target["moe_intermediate_size"]) == (128, 8, 704)
    assert target["vocab_size"] == draft["text_config"]["vocab_size"] == 262_144
    assert target["sliding_window"] == draft["text_config"]["sliding_window"] == 1024
    assert full_heads(target) == full_heads(draft["text_config"]) == {(2, 256)}
    assert draft["backbone_hidden_size"] == target["hidden_size"] == 2816


@pytest.mark.parametrize(("rows", "why"), [([], "was counted"), ([[120, 0.01], [63, 0.02]], "63 of 128 experts")])
def test_a_load_of_few_experts_is_not_the_models(rows: list[list[float]], why: str) -> None:
    pair = importlib.import_module("expert_pair")
    assert pair.loaded([[120, 0.01], [64, 0.02]], 128) == (64, 0.02)
    with pytest.raises(ValueError, match=why):
        pair.loaded(rows, 128)


def test_blocks_change_what_is_armed_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sglang")
    clock, toggle = importlib.import_module("step_clock"), importlib.import_module("trap_toggle")
    from g4diag import plugin
    from g4diag.hooks import aliases
    from g4diag.stack.live import arming

    monkeypatch.setattr(arming, "armed", arming.armed)  # and, with the next, put back after
    monkeypatch.setattr(aliases, "_index", None)
    names = {name: toggle.MODES[name] for name in ("none", "page-table")}
    for name in {name for mode in names.values() for name in mode}:
        monkeypatch.setenv(name, "")
    blocks = clock.Blocks(tmp_path / "blocks.jsonl", steps=2, batch=4, modes=names)
    try:
        for row in range(14):
            blocks.next_row(row, 4 if row != 1 else 3)
            for armed in blocks._armed:
                armed.live.begin_step()
    finally:
        plugin.disarm()
    rows = [json.loads(line) for line in (tmp_path / "blocks.jsonl").read_text().splitlines()]
    assert [(row["first"], row["end"], row["cycle"]) for row in rows] == [(0, 4, 0), (4, 7, 0), (7, 10, 1), (10, 13, 1)]
    assert {(row["mode"], bool(row["traps"]), row["seen"] > 0) for row in rows} == {
        ("none", False, False),
        ("page-table", True, True),
    }


def test_ratios_of_blocks_are_told_from_what_a_batch_costs_as_it_grows() -> None:
    np, module = pytest.importorskip("numpy"), importlib.import_module("trap_blocks")
    random, blocks, rows, now = np.random.default_rng(1), list[dict[str, Any]](), list[tuple[int, int, int]](), 0.0
    for cycle in range(30):
        order = random.permutation(module.NAMES)
        for mode in order:
            first = len(rows)
            for _ in range(54):
                if len(rows) % 700 == 0:
                    rows.append((int(now), 0, 32))  # a prefill: the next batch begins
                slower = 1 + 0.3 * (len(rows) % 700) / 700 + 0.02 * (mode == "all traps")
                now += 1_000_000 * slower + random.normal(0, 2000)
                rows.append((int(now), 1, 32))
            blocks.append({"mode": str(mode), "cycle": cycle, "first": first, "end": len(rows)})
    rows[60] = (*rows[60][:2], 31)  # not the whole batch: two steps are left out, and the block is of no batch
    steps, begun = module.steps_of(blocks, rows, 32), module.places(blocks, rows, 32)
    assert [len(found) for found in steps[:3]] == [51, 48, 50]
    assert begun[1] is None and 9 < begun.count(None) < 13
    table = {row["mode"]: row for row in module.ratios(blocks, steps, begun, resamples=200)}
    assert table["none"]["median"] == 1 and table["all traps"]["median_low"] > 1.015
    assert table["all traps"]["median_high"] < 1.021 and abs(table["page-table"]["mean"] - 1) < 0.001
    with pytest.raises(ValueError, match="in two cycles each, found 3 whole blocks"):
        module.ratios(blocks[2:5], steps[2:5], begun[2:5])


def test_a_server_ends_with_the_benchmark_that_is_ended(tmp_path: Path) -> None:
    child, parent = tmp_path / "child.py", tmp_path / "parent.py"
    child.write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(100)\n"
    )
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    parent.write_text(f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(benchmarks)!r})
import servers
servers.own_child()
servers.server_run.COMMAND = (sys.executable, {str(child)!r})
job = servers.Job(engine={{}}, patches=(), folder=Path({str(tmp_path / "work")!r}), seconds=100.0)
servers.Server("a", job).start()
time.sleep(100)
""")
    running = subprocess.Popen([sys.executable, str(parent)])
    end = time.monotonic() + 60
    pid = ""
    while not pid and time.monotonic() < end:
        time.sleep(0.1)
        pid = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
    for _ in range(2):  # as from `timeout`, which sends it to the group besides
        running.terminate()
        time.sleep(0.3)
    assert running.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
