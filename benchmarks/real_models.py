"""The fork's headline results at the real geometry of Gemma-4 26B-A4B and 31B, with dummy weights, on one GPU.

    bash tools/on_gpu.sh exec python3 benchmarks/real_models.py --time-limit 575
    bash tools/on_gpu.sh exec python3 benchmarks/real_models.py --only 31b-0.15,31b-0.8 --out real_31b
    .venv/bin/python benchmarks/real_models.py --table real_models.json real_31b.json     # no GPU: one table of both

sglang 0.5.23, triton attention and experts, no draft, no tokenizer, decode graphs. One server after the other:
26b-0.8, 26b-0.15: 80 prompts of 8192 random tokens in, 1024 out, at most 64 at once (what FACTS.md has of the fork's
E4B run; that of its 26B run is not known): pool sizes, retractions, tokens computed twice, median TTFT and TPOT.
26b-0.15 goes on with what is told inside one server: one prompt of 8192 tokens with hopper-extend-tile in force and
not, in random order; and the decode step with the fused router and with the chain it replaced: graphs of even
batch sizes hold the one, those of odd sizes the other, and a line through both has the jump. The fused router is
upstream's since 0.5.13.
31b-0.15, 31b-0.8: 24 prompts of 8192 in, 256 out, all at once: how many run, how full the pools are.
Static memory is 0.9 of the GPU throughout; the fork's B200 has more, so pools are smaller here.
Norms and scales of the dummy weights are put to one, or the experts' load would be no load: see real_plugin.py. The
experts that were used are counted in the warm-up.
Writes $OUT/OUT.json after every server, and OUT-logs.txt.gz. Exit 0; 1 when a figure that was asked for is missing.
On two GPUs, at ratio 0.8 and the static memory fraction that sglang chooses, asked for by name:
31b-released: multimodal, as released, over a processor of ours (real_processor.py). 31b-mm-disabled: the same folder
with that patch and jit-bit-cast: weights, fraction and pools of both, and the same load after the same warm-up. There
the decode step with custom all-reduce and with NCCL's is told as the routers are: by graphs of even and of odd batch
sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import real_configs
import real_processor
import real_readings
import real_table
import servers
from servers import Server

from g4diag.patches.kernel_sources import lacks_bit_cast
from g4diag.servers.run import Job

Phase = dict[str, Any]
TILE = "hopper-extend-tile"
ENGINE: dict[str, Any] = {
    "load_format": "dummy",
    "skip_tokenizer_init": True,
    "enable_multimodal": False,
    "attention_backend": "triton",
    "moe_runner_backend": "triton",
    "sampling_backend": "pytorch",
    "grammar_backend": "none",
    "context_length": 16_384,
    "chunked_prefill_size": 8192,
    "disable_piecewise_cuda_graph": True,
    "decode_log_interval": 10,
    "random_seed": 0,
    "log_level": "info",
}
CHUNK = 8192
# Past the load's batch sizes, so that no graph of the load's holds the chain. Odd ones do.
ROUTED = tuple(range(66, 74))
ODD = frozenset(size for size in ROUTED if size % 2)
CHAINED = ODD | {CHUNK - 1}
TWO_GPUS = ("31b-released", "31b-mm-disabled")
WARMED = "warm batch"


@dataclass(frozen=True)
class Plan:
    """One server. seconds: what it may take at most, start included. chained: batch sizes with the chain's router.
    nccl: those that NCCL sums. folder_only: multimodal and memory are left to sglang's own choice."""

    name: str
    model: str
    ratio: float
    graphs: tuple[int, ...]
    phases: tuple[Phase, ...]
    seconds: float
    patches: tuple[str, ...] = ()
    chained: frozenset[int] = frozenset()
    nccl: frozenset[int] = frozenset()
    gpus: int = 1
    folder_only: bool = False


def load(name: str, requests: int, prompt: int, new: int, concurrency: int, seconds: float) -> Phase:
    about = {"kind": "load", "name": name, "requests": requests, "prompt": prompt, "new": new}
    return about | {"concurrency": concurrency, "seconds": seconds}


def switch(name: str, **on: bool) -> Phase:
    return {"kind": "switch", "name": name, "seconds": 20.0} | on


def warm_up(model: str, prompt: int) -> tuple[Phase, ...]:
    """Compiles what the load needs, prompts cut by a chunk's end among it, and counts experts where there are some."""
    phases: tuple[Phase, ...] = (load("warm", 5, prompt, 12, 5, 120.0),)
    return (switch("count", census=True), *phases, switch("counted")) if model != "31b" else phases


def plans(options: argparse.Namespace) -> list[Plan]:
    """All of them, in the order to run."""
    big, few = options.prompt, max(16, options.prompt * 3 // 4)
    main = load("main", options.requests, big, options.new, options.concurrency, options.load_seconds)
    stall = load("main", options.stall_requests, big, options.stall_new, options.stall_requests, 75.0)
    graphs = tuple(size for size in (1, *range(8, 65, 8)) if size <= options.concurrency) or (1,)
    toggled: tuple[Phase, ...] = (
        switch("tile on", tile=True),
        load("warm tile", 2, big, 2, 1, 60.0),
        load("warm chain", 1, CHUNK - 1, 2, 1, 60.0),
        {"kind": "prefill", "name": "prefill", "seconds": 40.0, "prompts": [CHUNK, CHUNK - 1]}
        | {"tiles": [False, True], "rounds": options.rounds},
        switch("tile off"),
        {"kind": "steps", "name": "steps", "seconds": 45.0, "batches": list(ROUTED)}
        | {"prompt": 256, "new": 48, "rounds": 2},
    )
    found = []
    for ratio in (0.8, 0.15):
        more = toggled if ratio == 0.15 else ()
        found.append(
            Plan(
                f"{options.moe}-{ratio}",
                options.moe,
                ratio,
                (*graphs, *ROUTED) if more else graphs,
                (*warm_up(options.moe, few), main, *more),
                235.0 if more else 190.0,
                (TILE,) if more else (),
                CHAINED if more else frozenset(),
            )
        )
    for ratio in (0.15, 0.8):
        few_graphs = tuple(sorted({1, 4, 8, 12, 16, 20, options.stall_requests}))
        found.append(Plan(f"31b-{ratio}", "31b", ratio, few_graphs, (*warm_up("31b", few), stall), 200.0))
    alone = [plan.name for plan in found]
    found += two_gpus((1, 4, 8))
    wanted = options.only.split(",") if options.only else alone
    if unknown := set(wanted) - {plan.name for plan in found}:
        raise SystemExit(f"real_models: no server {', '.join(sorted(unknown))}; there are {[p.name for p in found]}")
    return [plan for plan in found if plan.name in wanted]


def two_gpus(graphs: tuple[int, ...]) -> list[Plan]:
    """TWO_GPUS."""
    # Whoever starts first compiles for both: one prompt alone and all at once, as the load's prefills may come.
    warm = (load("warm", 1, 2048, 12, 1, 90.0), load(WARMED, 8, 2048, 12, 8, 90.0))
    phases = (*warm, load("main", 8, 2048, 64, 8, 60.0))
    steps: Phase = {"kind": "steps", "name": "steps", "seconds": 45.0, "batches": list(ROUTED)}
    steps |= {"prompt": 256, "new": 48, "rounds": 2}
    patches = ("mm-disabled", "jit-bit-cast")
    told = (*phases, switch("counted"), steps)
    more: dict[str, Any] = {"gpus": 2, "folder_only": True}
    return [
        Plan(TWO_GPUS[0], "31b", 0.8, graphs, phases, 250.0, **more),
        Plan(TWO_GPUS[1], "31b", 0.8, (*graphs, *ROUTED), told, 290.0, patches, nccl=ODD, **more),
    ]


def job(plan: Plan, options: argparse.Namespace, number: int, seconds: float) -> Job:
    geometry = real_configs.MODELS[plan.model]
    folder = servers.workplace() / options.out / plan.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    engine = ENGINE | {
        "model_path": str(real_configs.write(geometry, folder / "model")),
        "page_size": geometry.page_size,
        "swa_full_tokens_ratio": plan.ratio,
        "mem_fraction_static": options.mem_fraction,
        "cuda_graph_bs": list(plan.graphs),
        "max_running_requests": max(plan.graphs),
        "port": options.port + 150 * number,
        "tp_size": plan.gpus,
    }
    if plan.folder_only:
        real_processor.write(Path(engine["model_path"]))
        del engine["mem_fraction_static"], engine["enable_multimodal"]
        engine["enforce_disable_flashinfer_allreduce_fusion"] = True  # or nothing is left for the all-reduce to do
    environment = {
        "SGLANG_PLUGINS": "g4diag,g4bench,g4real",
        "TRAPBENCH_CLOCK": str(folder / "steps.i64"),
        "REALBENCH_FOLDER": str(folder),
        "REALBENCH_CHAIN": ",".join(map(str, sorted(plan.chained))),
        "REALBENCH_NCCL": ",".join(map(str, sorted(plan.nccl))),
        "REALBENCH_PHASES": json.dumps(plan.phases),
    }
    if plan.gpus > 1:
        # NVLink multicast can be out of service on a shared host, and takes it out of service for others.
        environment |= {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"}
    return Job(
        engine=engine,
        patches=plan.patches,
        folder=folder,
        seconds=seconds,
        environment=environment,
        requests=1,
        new_tokens=1,
        vocab=min(real_configs.PLAIN_IDS, geometry.vocab - 16),
    )


def reading(plan: Plan, server: Server) -> dict[str, Any]:
    """All that this server said."""
    text, events = server.text(), server.events()
    ready = server.saw("ready")
    found: dict[str, Any] = {"plan": plan.name, "model": plan.model, "ratio": plan.ratio}
    found |= {"ready_seconds": ready and ready["at"], "seconds": server.result and round(server.result.seconds, 1)}
    found |= {"pools": real_readings.pools(text), "weights_gib": real_readings.weights_gib(text)}
    found["load"] = real_readings.latencies(events, "main")
    found["fullness"] = real_readings.fullness(real_readings.of_phase(text, "main"))
    found["experts"] = real_readings.census(events)
    rows = servers.read_clock(server.clock)[2]
    found["decode_steps"] = real_readings.steps_by_batch(real_readings.between(events, "main", rows))
    if plan.chained:
        found["prefill"], found["tile_launches"] = (
            real_readings.prefills(events, "prefill"),
            real_readings.tiles(events),
        )
        found["router_steps"] = real_readings.steps_by_batch(real_readings.between(events, "steps", rows))
        found["router"] = real_readings.jump(found["router_steps"], plan.chained)
    if plan.folder_only:
        found["fraction"] = real_readings.fraction(text)
        found["warmed"] = real_readings.latencies(events, WARMED)["whole"]
    if "jit-bit-cast" in plan.patches:  # whether it had anything to do
        nvcc = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc"
        found["lacks_bit_cast"] = [lacks_bit_cast(name) for name in (os.environ.get("CXX", "c++"), str(nvcc))]
    if plan.nccl:
        found["sums"] = real_readings.sums(events)
        found["sum_steps"] = real_readings.steps_by_batch(real_readings.between(events, "steps", rows))
        found["all_reduce"] = real_readings.jump(found["sum_steps"], plan.nccl)
    at = {(event["event"], event.get("name")): event["at"] for event in events}
    found["phases"] = {
        name: round(at["phase over", name] - begun, 1)
        for (event, name), begun in at.items()
        if event == "phase" and ("phase over", name) in at
    }
    found["problem"] = problem(plan, found, server)
    return found


def problem(plan: Plan, found: dict[str, Any], server: Server) -> str:
    """What was asked of this server and did not come; "" if all did."""
    if not found["load"].get("whole"):
        return server.why()
    wanted = {
        "no pool sizes in the log": found["pools"],
        "no decode line in the log": found["fullness"]["decode_lines"],
    }
    if plan.model != "31b":
        wanted["no expert was counted"] = found["experts"]["calls"]
    if plan.chained:
        wanted["no launch got the patch's tile"] = found["tile_launches"]
        wanted["the prompts alone were not timed four ways"] = len(found["prefill"]) == 4
        wanted["the routers' steps were not timed"] = found["router"]
    if plan.nccl:
        wanted["no sum was custom all-reduce's, or none NCCL's, in a graph"] = min(found["sums"], default=0)
        wanted["the sums' steps were not timed"] = found["all_reduce"]
    if plan.folder_only:
        wanted["no static memory fraction in the log"] = found["fraction"]
        wanted["no request of the warm-up came back whole"] = found["warmed"]
        wanted["no decode step of the load was timed"] = found["decode_steps"]
    return "; ".join(name for name, value in wanted.items() if not value)


def run(plan: Plan, options: argparse.Namespace, number: int, left: float) -> tuple[Server, dict[str, Any]]:
    """Start it, let it go through its phases, read it."""
    wait_for_memory(options.free_gib)
    server = Server(plan.name, job(plan, options, number, min(plan.seconds, left)))
    server.start()
    said: set[str] = set()
    while server.is_alive():
        server.join(1.0)
        for event in server.events():
            line = f"{event['at']:.0f} s: {event['event']} {event.get('name', '')}"
            if event["event"] in ("ready", "phase", "cut", "failed", "error") and line not in said:
                said.add(line)
                print(f"real_models: {plan.name}: {line}", flush=True)
    return server, reading(plan, server)


def wait_for_memory(gib: float, seconds: float = 20.0) -> None:
    """Until the last server's memory is given back."""
    end = time.monotonic() + seconds
    while (free := servers.free_gib()) is not None and free < gib and time.monotonic() < end:
        time.sleep(0.5)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of servers, comma between")
    parser.add_argument("--time-limit", type=float, default=575.0)
    parser.add_argument("--out", default="real_models", help="name of the files in $OUT")
    parser.add_argument("--table", nargs="+", type=Path, help="print the table of these results, and run nothing")
    parser.add_argument("--requests", type=int, default=80)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=8192)
    parser.add_argument("--new", type=int, default=1024)
    parser.add_argument("--load-seconds", type=float, default=110.0, help="of the 26B's load, at most")
    parser.add_argument("--stall-requests", type=int, default=24)
    parser.add_argument("--stall-new", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=8, help="of the prompts alone")
    parser.add_argument("--mem-fraction", type=float, default=0.9)
    parser.add_argument("--free-gib", type=float, default=130.0, help="wait a while for this much free memory")
    parser.add_argument("--port", type=int, default=41_000)
    parser.add_argument("--moe", default="26b", choices=sorted(real_configs.MODELS), help="what stands for the 26B")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    if options.table:
        return real_table.show([json.loads(path.read_text(encoding="utf-8")) for path in options.table])
    end = time.monotonic() + options.time_limit
    servers.own_child("real_child")
    for name, source in (("g4bench", "step_clock"), ("g4real", "real_plugin")):
        servers.plugin(Path(tempfile.mkdtemp(prefix=f"g4-{name}-")), name, source)
    wanted, ran, found = plans(options), list[Server](), dict[str, Any]()
    content = {"options": vars(options), "machine": servers.machine(), "engine": ENGINE, "servers": found}
    for number, plan in enumerate(wanted):
        if (left := end - time.monotonic() - 5) < 45:
            print(f"real_models: {plan.name}: not run, {left:.0f} s left", flush=True)
            continue
        server, found[plan.name] = run(plan, options, number, left)
        ran.append(server)
        servers.write_json(f"{options.out}.json", content)
        servers.write_tails(f"{options.out}-logs.txt.gz", ran, 250)
        print(f"real_models: {plan.name}: {json.dumps(found[plan.name]['load'])[:300]}", flush=True)
    missing = {plan.name: found.get(plan.name, {"problem": "not run"})["problem"] for plan in wanted}
    missing = {name: why for name, why in missing.items() if why}
    real_table.show([content])
    for name, why in missing.items():
        print(f"real_models: {name}: no figure: {why}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
