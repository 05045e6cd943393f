"""What a user would pick in place of traps, beside nothing, on one shape and load: decode step of a pair.

    bash tools/on_gpu.sh exec python3 benchmarks/trap_rivals.py --time-limit 250
    bash tools/on_gpu.sh exec python3 benchmarks/trap_rivals.py --shape 26b --time-limit 570 --sanitizer-prompt 200

trap_overhead.py's servers, shapes and rounds: all of a group are up before anything is timed, and sleep while another
is. With graphs: all traps, async asserts, CUDA_LAUNCH_BLOCKING=1. Eager: the fork's host check. Without the draft,
which it does not know: `--kv-canary log`, as it is and with SGLANG_GEMMA_OUT_OF_PLACE_POSITION_MUTATION=1, which
upstream's own tests of it set. Each group has its own server of nothing, and each ratio is against that in the same
round. Groups that do not fit the GPU's memory beside each other run one after another.
What the canary and the fork's check counted, warm-up and all, is printed from their logs.
`26b`: pools in which the whole batch of `--prompt` and `--new` tokens decodes at once, nothing taken back or evicted.
`compute-sanitizer --tool memcheck` is one more server, eager and with the draft: it starts beside the first group, is
stopped while others are timed, and has what is left of the time for one batch of few steps. It sees what leaves an
allocation; a pool is one allocation. What it does not get done in its seconds is said.
Writes $OUT/trap_rivals.json after every reading. Exit 1 when nothing was read of one that was to be timed, its whole
batch never decoded at once, or its log has no sign that it was on; the sanitizer and the canary may fail to start or to
serve, and then say why.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import rival_readings
import servers
from sanitized import SANITIZED, sanitized
from server_work import CONTEXT
from servers import Server
from trap_overhead import SHAPES, Config, Fleet, Shape, summary

CANARY, CANARY_APART = "--kv-canary log, no draft", "--kv-canary log, positions out of place, no draft"
APART = {"SGLANG_GEMMA_OUT_OF_PLACE_POSITION_MUTATION": "1"}
FORK = "fork's host check, eager"
CONFIGS = (
    Config("nothing"),
    Config("all traps", traps="all"),
    Config("SGLANG_ENABLE_ASYNC_ASSERT=1", {"SGLANG_ENABLE_ASYNC_ASSERT": "1"}),
    Config("CUDA_LAUNCH_BLOCKING=1", {"CUDA_LAUNCH_BLOCKING": "1"}),
    Config("nothing, eager", eager=True, base="nothing, eager"),
    Config(FORK, {"TRAPBENCH_FORK_CHECK": "1"}, eager=True, base="nothing, eager"),
    Config("nothing, no draft", base="nothing, no draft", drafted=False),
    Config(CANARY, base="nothing, no draft", drafted=False, engine={"kv_canary": "log"}),
    Config(CANARY_APART, APART, base="nothing, no draft", drafted=False, engine={"kv_canary": "log"}),
)
MAY_FAIL = (CANARY, CANARY_APART)
# What a log must hold of one that was on, and what it must have counted.
SIGNS = {FORK: "g4bench: the fork's check runs", CANARY: "install_canary:", CANARY_APART: "install_canary:"}
COUNTED = {FORK: "fork_check", CANARY: "canary", CANARY_APART: "canary"}
# Bytes of a token in the 26b shape's full and SWA pools (bf16 K and V: layers, heads, 256 wide), and what a server of
# it takes beside its pools, estimated.
FULL_BYTES, SWA_BYTES = 5 * 2 * 256 * 4, 25 * 8 * 256 * 4
BESIDE_POOLS_GIB, SANITIZER_GIB = 7.0, 4.0
NEW = {"tiny": 300, "26b": 200}
RATIO, PAGE = 0.95, int(servers.ENGINE["page_size"])


def shape_of(options: argparse.Namespace) -> Shape:
    """The shape with the prompt and new tokens that were asked for; 26b's pools hold the whole batch to its end."""
    base = SHAPES[options.shape]
    prompt, new = options.prompt, options.new or NEW[options.shape]
    if prompt + new > CONTEXT:
        raise SystemExit(f"trap_rivals: --prompt and --new: wanted at most {CONTEXT} together, found {prompt + new}")
    kept = tuple(c for c in CONFIGS if not options.only or c.name in options.only.split(";"))
    shape = replace(base, name="rivals", configs=kept, prompt=prompt, new=new, eager_new=min(new, options.eager_new))
    if options.shape == "26b":
        # In whole pages, and two of them a row: what a draft is given ahead, and what admission keeps.
        tokens = base.batch * PAGE * (-(-(prompt + new) // PAGE) + 2)
        engine = base.engine | {"max_total_tokens": tokens, "swa_full_tokens_ratio": RATIO}
        pools = tokens * (FULL_BYTES + RATIO * SWA_BYTES) / 2**30
        shape = replace(shape, engine=engine, gib=round(BESIDE_POOLS_GIB + pools, 1))
    return replace(shape, gib=options.gib or shape.gib)


def waves(shape: Shape, free: float | None, beside: float) -> list[Shape]:
    """The shape's groups, configurations of one base each, put together as far as memory goes. free: GiB, None where
    nobody can say. beside: what another server takes. sglang wants a part of what was free left over."""
    groups: dict[str, list[Config]] = {}
    for config in shape.configs:
        groups.setdefault(config.base, []).append(config)
    room = float("inf") if free is None else free * float(shape.engine["mem_fraction_static"]) - beside
    packed: list[list[Config]] = []
    for group in groups.values():
        if packed and shape.gib * (len(packed[-1]) + len(group)) <= room:
            packed[-1] += group
        else:
            packed.append(group)
    return [replace(shape, configs=tuple(wave)) for wave in packed]


def rounds(fleet: Fleet, shape: Shape, most: int, kept: float) -> None:
    """Batches on each, every other round backwards, until `most` rounds or all but `kept` seconds are over."""
    last = 0.0
    for number in range(most):
        begun = time.monotonic()
        if number and fleet.left() < 1.2 * last + kept:
            break
        for config in shape.configs[:: -1 if number % 2 else 1]:
            if fleet.left() > kept:
                fleet.measure(shape, config, number)
        last = time.monotonic() - begun


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="tiny", choices=sorted(NEW))
    parser.add_argument("--prompt", type=int, default=1000, help="tokens")
    parser.add_argument("--new", type=int, default=0, help="tokens a request; the default is 300, 200 with 26b")
    parser.add_argument("--eager-new", type=int, default=120, help="the same of eager servers; a step may bring four")
    parser.add_argument("--intermediate", type=int, default=3072, help="of the 26b shape's dense MLP")
    parser.add_argument("--gib", type=float, default=0.0, help="of the GPU a server; the default is an estimate")
    parser.add_argument("--rounds", type=int, default=3, help="at most; as many as the time limit allows")
    parser.add_argument("--time-limit", type=float, default=250.0)
    parser.add_argument("--only", default="", help="names of configurations, ; between")
    parser.add_argument("--later-seconds", type=float, default=180.0, help="kept for each group of servers after this")
    parser.add_argument("--no-sanitizer", action="store_true")
    parser.add_argument("--sanitizer", default=shutil.which("compute-sanitizer", path="/usr/local/cuda/bin"))
    parser.add_argument("--sanitizer-prompt", type=int, default=0, help="tokens under it; the default is --prompt")
    parser.add_argument("--sanitizer-new", type=int, default=40, help="tokens a request under it; likewise")
    parser.add_argument("--sanitizer-seconds", type=float, default=60.0, help="kept for it after the others")
    parser.add_argument("--stagger", type=float, default=1.0)
    return parser.parse_args()


def main() -> int:
    options = parsed()
    shape = shape_of(options)
    servers.own_child()
    servers.clock_plugin(Path(tempfile.mkdtemp(prefix="g4-rivals-site-")))
    pair = Path(tempfile.mkdtemp(prefix="g4-rivals-"))
    models = servers.big_models(pair, options.intermediate) if options.shape == "26b" else servers.tiny_models(pair)
    fleet = Fleet(options)
    fleet.out = "trap_rivals"
    free, checked = servers.free_gib(), None
    if options.sanitizer and not options.no_sanitizer:
        slow = replace(shape, prompt=options.sanitizer_prompt or shape.prompt)
        checked = sanitized(fleet, slow, models, options.sanitizer, len(CONFIGS))
    for_later, to_measure = options.sanitizer_seconds if checked else 5.0, min(50.0, options.time_limit / 5)
    todo = waves(shape, free, shape.gib + SANITIZER_GIB if checked else 0.0)
    fleet.more |= {"shape": {"of": options.shape, **{k: v for k, v in vars(shape).items() if k != "configs"}}}
    fleet.more |= {"waves": [[config.name for config in wave.configs] for wave in todo], "free_gib": [free]}
    for index, wave in enumerate(todo):
        kept = for_later + options.later_seconds * (len(todo) - 1 - index)
        fleet.start(wave, models)
        fleet.wait_ready(wave, time.monotonic() + max(1.0, fleet.left() - kept - to_measure))
        fleet.more["free_gib"].append(servers.free_gib())
        if checked:
            checked.pause()
        rounds(fleet, wave, options.rounds, kept)
        servers.stop_all(fleet.servers.values(), 10)
        if checked:
            checked.go_on()
        if index + 1 < len(todo):
            wait_for_memory(shape.gib * len(todo[index + 1].configs) + 1)
    if checked:
        fleet.more["sanitizer"] = checked.read(slow, options.sanitizer_new, time.monotonic() + fleet.left() - 8)
        servers.stop_all([checked.server], 5)
    elif not options.no_sanitizer:
        fleet.more["sanitizer"] = {"config": SANITIZED.name, "outcome": "not run: no compute-sanitizer was found"}
    texts = {name: server.text() for (_, name), server in fleet.servers.items()}
    fleet.more["counted"] = {name: found for name, text in texts.items() if (found := rival_readings.of(text))}
    fleet.write()
    return show(fleet, shape, [*fleet.servers.values(), *([checked.server] if checked else [])])


def wait_for_memory(gib: float, seconds: float = 15.0) -> None:
    """Until those that were stopped have given back enough of theirs."""
    end = time.monotonic() + seconds
    while (free := servers.free_gib()) is not None and free < gib and time.monotonic() < end:
        time.sleep(0.5)


def show(fleet: Fleet, shape: Shape, started: list[Server]) -> int:
    """Print the table; 1 if one that was to be timed was not."""
    rows = summary(fleet.readings)
    columns = ("config", "batch", "rounds", "steps", "step_us", "ratio", "ratio_low", "ratio_high")
    servers.show(columns, [[row.get(column, "-") for column in columns] for row in rows])
    print(f"prompts of {shape.prompt}, {shape.new} new tokens a request, {shape.eager_new} of eager servers")
    timed = {row["config"]: row for row in rows if row.get("step_us")}
    counted = fleet.more["counted"]
    for name, found in counted.items():
        print(*(f"{name}: {kind}: {rival_readings.said(row)}" for kind, row in found.items()), sep="\n")
    if found := fleet.more.get("sanitizer"):
        base = timed.get(SANITIZED.base, {}).get("step_us", 0)
        slower = f", {found['median_us'] / base:.1f} times" if base and "median_us" in found else ""
        step = (
            f", step {found['median_us']:.0f} us{slower}, prompts of {found['prompt']}" if "median_us" in found else ""
        )
        print(f"{SANITIZED.name}: {found['outcome']}{step}, {found.get('invalid_accesses', '-')} invalid accesses")
    for line in fleet.left_out:
        print(f"{line}: no memory for it")
    failed = []
    for config in shape.configs:
        server, row = fleet.servers.get((shape.name, config.name)), timed.get(config.name)
        if row is None:
            print(f"{config.name}: no figure: {server.why() if server else 'not started'}")
            failed += [config.name] if config.name not in MAY_FAIL else []
        elif why := says_nothing(config.name, server.text() if server else "", row, shape.batch):
            print(f"{config.name}: {why}: its figure says nothing")
            failed.append(config.name)
    servers.write_tails(f"{fleet.out}-logs.txt.gz", started, 60)
    return 1 if failed or not timed else 0


def says_nothing(name: str, text: str, row: dict[str, Any], batch: int) -> str:
    """Why the figure of one that was timed says nothing; "" if it does."""
    if SIGNS.get(name, "") not in text:
        return "no sign in its log that it was on"
    if (kind := COUNTED.get(name)) and not rival_readings.of(text).get(kind, {}).get("looks"):
        return "no look counted in its log"
    return f"{row['batch']} decoded at once, not {batch}" if row["batch"] != batch else ""


if __name__ == "__main__":
    sys.exit(main())
