"""The real geometries, their weights, and `real_models.py` from its servers to its table over a stand-in engine."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sglang.kernels", reason="the benchmark is of 0.5.23")

STAND_IN = Path(__file__).with_name("real_stand_in.py")


def module(name: str) -> Any:
    return importlib.import_module(name)


@pytest.mark.parametrize(
    ("name", "layers", "per_token", "gigabytes", "towers"),
    [("26b", (25, 5), (20_480, 204_800), 51.6, 1.15), ("31b", (50, 10), (81_920, 819_200), 62.8, 1.15)],
)
def test_geometry_is_the_public_one_by_sglangs_own_classes(
    name: str, layers: tuple[int, int], per_token: tuple[int, int], gigabytes: float, towers: float, tmp_path: Path
) -> None:
    configs = module("real_configs")
    geometry = configs.MODELS[name]
    assert geometry.bytes_per_token() == per_token  # FACTS: what the fork's pool sizes are consistent with
    made = configs.model(geometry, tmp_path)
    kinds = [layer.is_full_attention for layer in made.language_model.layers]
    assert (kinds.count(False), kinds.count(True)) == layers and kinds[:6] == [False] * 5 + [True]
    full, sliding = made.language_model.layers[5].self_attn, made.language_model.layers[0].self_attn
    assert (sliding.num_heads, sliding.num_kv_heads, full.num_kv_heads) == geometry.heads
    assert (sliding.head_dim, full.head_dim, sliding.sliding_window) == (256, 512, 1023)
    assert (
        made.language_model.embed_tokens.num_embeddings == 262_144 and made.lm_head is made.language_model.embed_tokens
    )
    experts = made.language_model.layers[0].moe
    assert experts.experts.w13_weight.shape == (128, 1408, 2816) if name == "26b" else experts is None
    size = configs.weights(geometry, tmp_path)
    assert size["all"] / 1e9 == pytest.approx(gigabytes, abs=0.1)
    assert size["towers"] / 1e9 == pytest.approx(towers, abs=0.02)


def test_dummy_weights_are_made_fit_for_experts(tmp_path: Path) -> None:
    torch, configs, plugin = module("torch"), module("real_configs"), module("real_plugin")
    from sglang.srt.model_loader.weight_utils import initialize_dummy_weights

    made = configs.model(configs.MODELS["tiny"], tmp_path, "cpu")
    initialize_dummy_weights(made)
    layers = made.language_model.layers
    assert len({float(layer.layer_scalar) for layer in layers}) == 1 and abs(float(layers[0].layer_scalar)) < 1e-3
    matrix = layers[0].moe.experts.w13_weight.clone()
    plugin.healthy(None, made)
    rows = [row for name, row in made.state_dict().items() if row.ndim == 1 and "vision" not in name]
    assert len(rows) > 60 and all(bool((row == 1).all()) for row in rows)
    assert torch.equal(layers[0].moe.experts.w13_weight, matrix)
    with pytest.raises(RuntimeError, match="found none"):
        plugin.healthy(None, torch.nn.Linear(2, 2))


def test_the_chain_routes_as_sglangs_own_rule_and_only_where_it_is_asked_for(tmp_path: Path) -> None:
    torch, configs, plugin = module("torch"), module("real_configs"), module("real_plugin")
    made = configs.model(configs.MODELS["tiny"], tmp_path, "cpu")
    moe = made.language_model.layers[0].moe
    logits = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    moe.per_expert_scale.data.copy_(torch.linspace(0.5, 2, 8))
    wanted = moe.topk.topk_config.custom_routing_function(logits, logits, 8, True)
    found = plugin.chain(logits, moe.per_expert_scale, 8)
    assert torch.allclose(wanted[0], found[0], rtol=1e-2) and torch.equal(wanted[1], found[1])
    router, asked = plugin.Router(frozenset({3})), list[int]()

    def fused(logits: Any, scale: Any, topk: int) -> Any:
        asked.append(len(logits))
        return plugin.chain(logits, scale, topk)

    router.counting, router.LEAST = True, 4
    for tokens in (3, 4, 5):
        router.around(fused, torch.zeros(tokens, 8), moe.per_expert_scale, 2)
    assert asked == [4, 5] and router.experts == [(2, 0.5), (2, 0.5)]  # zeros: every token to the same two


def test_the_tile_is_out_of_force_until_it_is_switched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = module("real_plugin")
    from g4diag.patches import hopper_extend_tile as patch

    for name in ("_is_ours", "tile_for"):
        monkeypatch.setattr(patch, name, getattr(patch, name))  # and put back after
    tensor = module("torch").zeros(1, 8, 256, dtype=module("torch").bfloat16)
    tile = plugin.Tile()
    assert not patch._is_ours(tensor, tensor, tensor)
    switch = plugin.Switch(tmp_path, plugin.Router(frozenset()), tile)
    (tmp_path / "switch.json").write_text('{"number": 0, "tile": true, "census": false}')
    switch.after(None)
    assert patch._is_ours(tensor, tensor, tensor) and patch.tile_for(1, 8, 9, 1, 0) and tile.launches == 1
    assert json.loads((tmp_path / "switch-0.ack").read_text()) == {"tiles": 0, "experts": [], "sums": [0, 0]}


def test_the_plugin_is_where_sglang_calls(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:0] = [{str(STAND_IN.parents[2])!r}, {str(STAND_IN.parents[2] / "benchmarks")!r}]
from g4diag.stack.drive import cpu
cpu.prepare_environment()
import real_plugin
real_plugin.register()
from sglang.srt.plugins.hook_registry import HookRegistry
HookRegistry.apply_hooks()
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.model_loader import loader
from sglang.srt.models import gemma4_causal
for found in (loader.initialize_dummy_weights, gemma4_causal.gemma4_fused_routing, Scheduler.get_next_batch_to_run):
    print("hooked", hasattr(found, "__wrapped__"))
"""
    environment = os.environ | {"REALBENCH_FOLDER": str(tmp_path), "REALBENCH_CHAIN": "3,5"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert told.stdout.count("hooked True") == 3, told.stdout + told.stderr[-2000:]


def test_sums_are_left_to_nccl_where_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, torch = module("real_plugin"), module("torch")
    from sglang.srt.distributed.device_communicators.custom_all_reduce_v2 import CustomAllReduceV2

    path, _, name = plugin.SUM.rpartition(".")
    assert path.endswith(CustomAllReduceV2.__qualname__) and list(
        inspect.signature(getattr(CustomAllReduceV2, name)).parameters
    ) == ["self", "inp"]
    sums = plugin.Sums(frozenset({67}))
    monkeypatch.setattr(plugin, "capturing", lambda: True)
    taken = [sums.around(lambda _, inp: len(inp) > 1, None, torch.zeros(rows, 8)) for rows in (1, 66, 67, 68)]
    assert taken == [False, True, False, True] and sums.seen == [2, 1]


def test_a_folder_with_our_processor_is_served_multimodal(tmp_path: Path) -> None:
    configs, processor = module("real_configs"), module("real_processor")
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.managers.multimodal_processor import get_mm_processor, import_processors
    from sglang.srt.utils.hf_transformers_utils import get_processor

    from g4diag.stack.drive import cpu

    cpu.start_process(cpu.server_args(page_size=64, mm_process_config={}))
    folder = configs.write(configs.MODELS["31b"], tmp_path)
    processor.write(folder)
    config, made = ModelConfig(str(folder), dtype="bfloat16"), get_processor(str(folder))
    assert config.is_multimodal and made.image_token_id == config.hf_config.image_token_id
    import_processors("sglang.srt.multimodal.processors")
    args = cpu.server_args(page_size=64, mm_process_config={})
    assert type(get_mm_processor(config.hf_config, args, made, "default", model_config=config)).__name__ == (
        "Gemma4SGLangProcessor"
    )


def test_arguments_are_those_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module("real_models")
    from sglang.srt.server_args import ServerArgs

    from g4diag.stack.releases import chosen

    monkeypatch.setenv("G4_WORK", str(tmp_path))
    plans = real.plans(real.parsed([]))
    assert [plan.name for plan in plans] == ["26b-0.8", "26b-0.15", "31b-0.15", "31b-0.8"]
    plans += real.plans(real.parsed(["--only", ",".join(real.TWO_GPUS)]))
    release = chosen()
    assert release is not None
    for plan in plans:
        job = real.job(plan, real.parsed([]), 0, 100.0)
        assert set(release.release.arguments(job.engine)) <= set(ServerArgs.__struct_fields__)
        assert json.loads(job.environment["REALBENCH_PHASES"])[0]["name"] in ("count", "warm")
        chained = {int(size) for size in job.environment["REALBENCH_CHAIN"].split(",") if size}
        loaded = [size for size in plan.graphs if size not in real.ROUTED]
        assert not chained & set(loaded) and max(loaded) == (64 if plan.model == "26b" else 24 if plan.gpus == 1 else 8)
        left = {int(size) for size in job.environment["REALBENCH_NCCL"].split(",") if size}
        assert bool(left) == (plan.name == "31b-mm-disabled") and left <= set(plan.graphs) - set(loaded)
        assert ("enable_multimodal" in job.engine) == ("mem_fraction_static" in job.engine) == (plan.gpus == 1)
        assert not chained or (max(plan.graphs) > 64 and chained & set(plan.graphs))


def test_sglang_itself_takes_the_arguments_on_an_h200(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module("real_models")
    from sglang.srt.arg_groups import memory_hook
    from sglang.srt.server_args import ServerArgs

    from g4diag.stack.releases import chosen

    monkeypatch.setenv("G4_WORK", str(tmp_path))
    monkeypatch.setattr(memory_hook, "get_device_memory_capacity", lambda device: 143_771)
    release = chosen()
    assert release is not None
    for plan in real.plans(real.parsed([])):
        job = real.job(plan, real.parsed([]), 0, 100.0)
        args = ServerArgs(**release.release.arguments(job.engine), device="cuda")
        args.resolve_once()
        found = args.resolved_dict()
        graphs = found["cuda_graph_config"]
        assert tuple(graphs["decode"]["bs"]) == plan.graphs and graphs["prefill"]["backend"] == "disabled"
        assert (found["attention_backend"], found["moe_runner_backend"]) == ("triton", "triton")
        assert (found["swa_full_tokens_ratio"], found["mem_fraction_static"]) == (plan.ratio, 0.9)
        assert (found["chunked_prefill_size"], found["page_size"]) == (8192, 1 if plan.model == "26b" else 64)
        assert not found["disable_radix_cache"] and not found["speculative_algorithm"]


def test_log_lines_are_read_in_the_schedulers_own_words() -> None:
    readings = module("real_readings")
    from sglang.srt.managers.scheduler_components.pool_stats_observer import PoolStats

    stats = PoolStats(500, 0.5, 1, 1, is_hybrid_swa=True, swa_num_used=90, swa_token_usage=0.9)
    prefill, decode = (
        ", ".join(parts()) for parts in (stats.get_prefill_usage_msg_parts, stats.get_decode_usage_msg_parts)
    )
    text = f"REALBENCH PHASE warm\nPrefill batch, #new-seq: 1, #new-token: 7, #cached-token: 0, {prefill}, x\n"
    text += f"REALBENCH PHASE main\nPrefill batch, #new-seq: 1, #new-token: 100, #cached-token: 20, {prefill}, x\n"
    text += (
        f"Decode batch, #running-req: 5, {decode}, cuda graph: True, gen throughput (token/s): 7.00, #queue-req: 3\n"
    )
    text += "KV cache pool is full. Retract requests. #retracted_reqs: 2, #new_tokens_gained: 64\nREALBENCH PHASE\n"
    found = readings.fullness(readings.of_phase(text, "main"))
    assert (found["computed_tokens"], found["cached_tokens"], found["retracted"]) == (100, 20, 2)
    assert (found["running_most"], found["full_use_most"], found["swa_use_most"], found["queued_median"]) == (
        5,
        0.5,
        0.9,
        3,
    )
    assert readings.of_phase(text, "steps") == "" and readings.pools("nothing") is None


def test_the_routers_jump_is_told_from_the_batch_and_from_noise() -> None:
    readings, np = module("real_readings"), pytest.importorskip("numpy")
    random = np.random.default_rng(3)
    chained = frozenset({67, 69, 71, 73, 8191})
    steps = {
        batch: {"steps": 90, "us": 15_000 + 40 * batch + 600 * (batch in chained) + random.normal(0, 5)}
        for batch in range(66, 74)
    }
    found = readings.jump(steps, chained)
    assert found["added_us"] == pytest.approx(600, abs=25) and 0 < found["error_us"] < 15
    none = readings.jump(
        {batch: row | {"us": row["us"] - 600 * (batch in chained)} for batch, row in steps.items()}, chained
    )
    assert abs(none["added_us"]) < 25
    assert readings.jump({66: steps[66], 67: steps[67]}, chained) is None


def test_two_gpus_have_their_rows() -> None:
    common = {"model": "31b", "load": {"whole": 24, "output_rate": 100.0}, "weights_gib": 30.0}
    old = common | {"pools": (90_880, 72_704), "fraction": 0.759}
    new = common | {"pools": (109_888, 87_910), "fraction": 0.834}
    new |= {"all_reduce": {"others_us": 21_000.0, "us": 20_000.0, "added_us": 1000.0, "error_us": 50.0}}
    # As a result is, and as it is read back; the smaller batch is of fewer steps that count.
    old |= {"decode_steps": {4: {"steps": 11, "us": 9000.0}, 8: {"steps": 62, "us": 13_000.0}}}
    new |= {"decode_steps": {"8": {"steps": 60, "us": 12_350.0}}}
    cells = [row.cells() for row in module("real_table").rows({"31b-released": old, "31b-mm-disabled": new})]
    shown = {cell[0].rpartition(": ")[2]: cell[3] for cell in cells}
    assert shown["static memory fraction"] == "1.099 / 1.093" and shown["full tokens"] == "1.209 / 1.216"
    assert shown["decode step near batch 70, ms, NCCL's all-reduce -> custom"] == "0.952" and len(cells) == 5
    assert shown["decode step of batch 8, ms"] == "0.950" and not any("tokens/s" in name for name in shown)
    assert "medians of 62 and 60 steps" in next(cell[5] for cell in cells if "batch 8" in cell[0])
    apart = {"31b-released": old | {"decode_steps": {"4": {"steps": 11, "us": 9000.0}}}, "31b-mm-disabled": new}
    assert len(list(module("real_table").rows(apart))) == 4


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    real, servers = module("real_models"), module("servers")
    from g4diag.servers import run as server_run

    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("G4_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(server_run, "COMMAND", (sys.executable, str(STAND_IN)))
    monkeypatch.setattr(servers, "own_child", lambda name: None)
    # Its engine arms nothing.
    monkeypatch.setattr(server_run, "_arming_problem", lambda job, armed: "")
    return real


SHORT = ("--moe", "tiny", "--requests", "6", "--concurrency", "3", "--prompt", "64", "--new", "30", "--rounds", "3")


def test_the_whole_script_over_a_stand_in(stand_in: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "tiny-0.8,tiny-0.15"
    assert stand_in.main([*SHORT, "--only", names, "--time-limit", "200"]) == 0
    content = json.loads((tmp_path / "out" / "real_models.json").read_text())
    old, new = (content["servers"][name] for name in names.split(","))
    assert old["pools"] == [100_000, 80_000] and new["pools"] == [100_000, 15_000] and new["weights_gib"] == 48.1
    for server in (old, new):
        assert server["load"]["whole"] == server["load"]["requests"] == 6 and server["load"]["cut"] == 0
        assert 50 < server["load"]["ttft_ms"] < 1000 and 1 < server["load"]["tpot_ms"] < 100
        assert server["fullness"]["computed_tokens"] == 6 * 64 and server["experts"]["fewest"] == 8
        assert 1 <= server["fullness"]["running_most"] <= 3 and server["problem"] == ""
    cells = {(cell["tile"], cell["prompt"]): cell for cell in new["prefill"]}
    assert set(cells) == {(on, prompt) for on in (False, True) for prompt in (8191, 8192)}
    assert cells[True, 8192]["ms"] < cells[False, 8192]["ms"] and new["tile_launches"] >= 6 and "prefill" not in old
    assert new["router"]["added_us"] > 1000  # 4 ms in the stand-in
    assert {"warm", "main", "prefill", "steps"} <= set(new["phases"]) and new["phases"]["main"] > 0.1
    assert new["router"]["batches"] == list(stand_in.ROUTED)
    capsys.readouterr()
    moe = {name.replace("tiny", "26b"): server | {"model": "26b"} for name, server in content["servers"].items()}
    renamed = tmp_path / "renamed.json"
    renamed.write_text(json.dumps({"servers": moe}))
    assert stand_in.main(["--table", str(renamed)]) == 0
    table = capsys.readouterr().out
    assert "10,459.0 -> 8,763.0" in table and "593,956 -> 2,138,243" in table and "tile off -> on" in table
    assert "not run: on two GPUs" in table


def test_a_server_of_two_gpus_is_warm_before_its_load(stand_in: Any, tmp_path: Path) -> None:
    name = stand_in.TWO_GPUS[0]
    assert stand_in.main(["--only", name, "--time-limit", "120", "--out", "two"]) == 0
    server = json.loads((tmp_path / "out" / "two.json").read_text())["servers"][name]
    assert list(server["phases"]) == ["warm", stand_in.WARMED, "main"] and server["problem"] == ""
    assert server["warmed"] == server["load"]["whole"] == 8 and server["decode_steps"]["8"]["steps"] >= 10
    log = (tmp_path / "work" / "two" / name / "server.log").read_text()
    assert log.count("#new-token: 2048") == 1 + 8 + 8 and server["fullness"]["computed_tokens"] == 8 * 2048
    plan, cold = stand_in.two_gpus((8,))[0], server | {"warmed": 0}
    assert stand_in.problem(plan, cold, None) == "no request of the warm-up came back whole"


def test_a_server_that_dies_is_no_figure(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN_DIES", "1")
    assert stand_in.main([*SHORT, "--only", "tiny-0.8", "--time-limit", "100"]) == 1
    assert "no figure" in capsys.readouterr().out
    assert (tmp_path / "out" / "real_models.json").exists()
    assert stand_in.main(["--only", "tiny-0.8", "--moe", "tiny", "--time-limit", "10"]) == 1  # no time for any
    with pytest.raises(SystemExit, match="no server x"):
        stand_in.main(["--only", "x"])


def test_a_load_that_is_cut_says_so(stand_in: Any, tmp_path: Path) -> None:
    short = (*SHORT, "--only", "tiny-0.8", "--new", "400", "--load-seconds", "1.5")
    assert stand_in.main(list(short)) == 0
    load = json.loads((tmp_path / "out" / "real_models.json").read_text())["servers"]["tiny-0.8"]["load"]
    assert load["cut"] > 0 and 0 < load["whole"] < 6


def test_another_order_is_said_plainly() -> None:
    table = module("real_table")
    cells = table.Row("TTFT", (100.0, 120.0), (10_459.0, 8763.0)).cells()
    assert cells[3:5] == ("1.200 / 0.838", "ANOTHER ORDER")
    assert table.Row("x", (0, 3)).cells()[3] == "-"
    assert table.show([{"servers": {}}]) == 1
