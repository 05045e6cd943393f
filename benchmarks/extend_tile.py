"""Triton extend attention on Hopper: the tile of sglang 0.5.13, the older stock tile, and `hopper-extend-tile`.

    PYTHONPATH=SITE:. python3 benchmarks/extend_tile.py [--more | --borders] [--sweep SECONDS]

Every tile is checked against fp32 attention by the definition before it is timed: with a float32 output, so that the
kernel's own error is seen (bf16 probabilities alone give about 1.7e-3 of the largest value) and not the rounding of a
bf16 output, which alone may reach 3.9e-3; then the bf16 output must be the float32 one, rounded, to one unit.
Times are medians over replays of CUDA graphs that go round several input sets, larger together than the L2 cache; the
tiles take turns, so that drift weighs on all. Goals: at least the fork's gain over the older tile, and no shape slower
than 0.5.13. Exit 0: right and met; 1: not; 3: cannot run. Kernels are compiled ahead in parallel processes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from extend_grid import Config, grid
from extend_shapes import BORDERS, HEADS, MORE, SIX, Shape, make_inputs, truth
from gpu import CannotRun, in_shares, machine, prepare, show, time_calls, write_json

MODULE = "sglang.srt.layers.attention.triton_ops.extend_attention"
PATCH = "hopper-extend-tile"
TOLERANCE, BF16_ULP, NOISE = 2e-3, 2**-7, 1.02
OLD: Config = (128, 64, 8, 1)
STOCK: Config = (64, 64, 8, 1)
VARIANTS = ("older stock", "0.5.13", "patch")


@dataclass
class Row:
    """One tile on one shape. error, error_bf16: largest absolute error over the largest true value."""

    shape: str
    variant: str
    launched: Config | None = None
    error: float = float("nan")
    error_bf16: float = float("nan")
    right: bool = False
    rounds: list[float] = field(default_factory=list)
    low: float = 0.0
    problem: str = ""

    @property
    def us(self) -> float:
        return statistics.median(self.rounds) if self.rounds else float("nan")

    @property
    def tile(self) -> str:
        return "{},{} w{} s{}".format(*self.launched) if self.launched else "-"


@contextmanager
def forced(config: Config) -> Iterator[None]:
    """Every launch with this tile, through the same seams as the patch."""
    from g4diag.hooks.attribute_patches import Swap, swap
    from g4diag.hooks.install import Hook, install

    class Staged:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getattr__(self, name: str) -> Any:
            return getattr(self.kernel, name)

        def __getitem__(self, grid: Any) -> Callable[..., Any]:
            return lambda *args, **kwargs: self.kernel[grid](*args, **(kwargs | {"num_stages": config[3]}))

    hook = Hook(f"{MODULE}._get_block_sizes_for_extend_attention", "after", lambda got, *_: (*got[:3], *config[:3]))
    with install("benchmark", [hook]), swap("benchmark", [Swap(f"{MODULE}._fwd_kernel", Staged)]):
        yield


def variant(name: str) -> Any:
    from g4diag.patches.applying import applied

    return forced(OLD) if name == "older stock" else applied([PATCH] if name == "patch" else [])


def attend(given: dict[str, Any], **changed: Any) -> None:
    from sglang.srt.layers.attention.triton_ops import extend_attention

    extend_attention.extend_attention_fwd(**(given | changed))


def launched(given: dict[str, Any], **changed: Any) -> Config:
    """Run once, and say what really reached the kernel."""
    from sglang.srt.layers.attention.triton_ops import extend_attention

    names, seen = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages"), []
    hooks = extend_attention._fwd_kernel.pre_run_hooks
    hooks.append(lambda *_, **kwargs: seen.append(tuple(kwargs[name] for name in names)))
    try:
        attend(given, **changed)
    finally:
        hooks.pop()
    return seen[-1]


def check(row: Row, given: dict[str, Any], wanted: Any) -> None:
    """Error with a float32 output, then the bf16 output against that one. NaN, an unwritten element, never passes."""
    import torch

    scale = wanted.abs().max()
    exact = torch.full(wanted.shape, float("nan"), device=wanted.device)
    row.launched = launched(given, o_extend=exact)
    given["o_extend"].fill_(float("nan"))
    attend(given)
    rounded = given["o_extend"].float()
    row.error = ((exact - wanted).abs().max() / scale).item()
    row.error_bf16 = ((rounded - wanted).abs().max() / scale).item()
    # Of the element itself; near zero, where sums cancel, of 1 % of the largest.
    apart = ((rounded - exact).abs() / exact.abs().clamp(min=0.01 * scale)).max().item()
    row.right = row.error < TOLERANCE and apart <= BF16_ULP
    if not row.right:
        row.problem = f"wrong: error {row.error:.2e}, bf16 from fp32 output {apart:.2e}"


def input_sets(shape: Shape, seed: int, l2_bytes: int) -> list[dict[str, Any]]:
    count = max(2, min(24, -(-3 * l2_bytes // shape.bytes_touched)))
    return [make_inputs(shape, seed + index) for index in range(count)]


def measure(shape: Shape, seed: int, l2_bytes: int, rounds: int) -> list[Row]:
    """Rows of the three variants, checked and timed in turn."""
    rows = [Row(shape.name, name) for name in VARIANTS]
    sets = input_sets(shape, seed, l2_bytes)
    wanted = truth(shape, sets[0])
    for row in rows:
        with reported(row), variant(row.variant):
            check(row, sets[0], wanted)
    for _, row in itertools.product(range(rounds), rows):
        if not row.problem:
            with reported(row), variant(row.variant):
                timing = time_calls([partial(attend, given) for given in sets])
                row.rounds.append(timing.median)
                row.low = min(row.low or timing.low, timing.low)
    return rows


def sweep(shape: Shape, configs: Sequence[Config], seed: int, l2_bytes: int, until: float) -> list[Row]:
    """One short timing of each tile; the three best are checked to the full tolerance."""
    sets = input_sets(shape, seed, l2_bytes)
    wanted = truth(shape, sets[0])
    rows = [Row(shape.name, "sweep") for _ in configs]
    for row, config in zip(rows, configs, strict=True):
        row.launched = config
        if time.monotonic() > until:
            row.problem = "out of time"
            continue
        with reported(row), forced(config):
            sets[0]["o_extend"].fill_(float("nan"))
            attend(sets[0])
            row.error_bf16 = ((sets[0]["o_extend"].float() - wanted).abs().max() / wanted.abs().max()).item()
            if not row.error_bf16 < TOLERANCE + BF16_ULP / 2:
                row.problem = f"wrong: error {row.error_bf16:.2e}"
                continue
            row.rounds = [time_calls([partial(attend, given) for given in sets], 0.06).median]
    best = sorted((row for row in rows if row.rounds and not row.problem), key=lambda row: row.us)
    for row in best[:3]:
        with reported(row), forced(row.launched or OLD):
            check(row, sets[0], wanted)
            row.rounds += [time_calls([partial(attend, given) for given in sets]).median for _ in range(2)]
    best[:3] = sorted(best[:3], key=lambda row: row.us)
    return best + [row for row in rows if row not in best]


@contextmanager
def reported(row: Row) -> Iterator[None]:
    """A tile that does not compile or fit is a row that says so."""
    try:
        yield
    except Exception as error:
        row.problem = f"{type(error).__name__}: {str(error).splitlines()[0][:90] if str(error) else ''}"


def chosen(shape: Shape) -> Config:
    """The patch's tile for this shape."""
    from g4diag.patches.hopper_extend_tile import tile_for

    return tile_for(shape.batch, HEADS, shape.extend, shape.window or -1, shape.batch * shape.kept)


def compile_jobs(shapes: list[Shape], swept: list[Shape], borders: bool) -> list[tuple[Shape, Config, bool]]:
    """(shape, tile, float32 output) of every kernel to be, without doubles: shapes of one kind share kernels."""
    jobs: dict[tuple[Any, ...], tuple[Shape, Config, bool]] = {}
    for shape, fp32 in itertools.product(shapes, (False, True)):
        for config in (OLD, STOCK, chosen(shape)):
            jobs.setdefault((shape.window, shape.verify, config, fp32), (shape, config, fp32))
    for shape in swept:
        for config in grid(shape, borders):
            jobs.setdefault((shape.window, shape.verify, config, False), (shape, config, False))
    return list(jobs.values())


def compile_share(jobs: list[tuple[Shape, Config, bool]], share: str) -> None:
    """Launch every n-th kernel once on next to no data; the compiled code stays in Triton's cache."""
    import torch

    index, of = map(int, share.split("/"))
    for shape, config, fp32 in jobs[index::of]:
        given = make_inputs(shape.small, 1)
        changed = {"o_extend": given["o_extend"].float()} if fp32 else {}
        with reported(Row(shape.name, str(config))), forced(config):
            attend(given, **changed)
    torch.cuda.synchronize()


def host_cost(shape: Shape) -> dict[str, float]:
    """Microseconds of host time an eager call takes, with and without the patch."""
    import torch

    given, cost = make_inputs(shape.small, 1), dict[str, float]()
    for name in ("0.5.13", "patch", "0.5.13", "patch"):
        with variant(name):
            attend(given)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(200):
                attend(given)
            took = (time.perf_counter() - start) / 200 * 1e6
            torch.cuda.synchronize()
        cost[name] = min(took, cost.get(name, took))
    return cost


def report(shapes: list[Shape], rows: list[Row]) -> list[str]:
    """Print the table; returns what is wrong or missed."""
    table, missed = [], []
    for shape in shapes:
        old, stock, tuned = (next(r for r in rows if (r.shape, r.variant) == (shape.name, name)) for name in VARIANTS)
        missed += [f"{shape.name}, {row.variant}: {row.problem}" for row in (old, stock, tuned) if row.problem]
        gain, over_stock = old.us / tuned.us, stock.us / tuned.us
        theirs = shape.reported[0] / shape.reported[1] if shape.reported else float("nan")
        if gain < theirs:
            missed.append(f"{shape.name}: {gain:.2f}x over the older tile, the fork's {theirs:.2f}x")
        if tuned.us > stock.us * NOISE:
            missed.append(f"{shape.name}: slower than 0.5.13, {tuned.us:.2f} us for {stock.us:.2f}")
        errors = "/".join(f"{row.error * 1e3:.2f}" for row in (old, stock, tuned))
        spread = (max(tuned.rounds, default=0.0) / min(tuned.rounds, default=1.0) - 1) * 100
        rate = shape.flops / tuned.us / 1e6
        cells = [shape.name, old.us, stock.us, tuned.us, tuned.tile, gain, over_stock, theirs, errors, spread, rate]
        table.append(cells)
    head = "shape|128,64 us|0.5.13 us|patch us|patch tile|x old|x 0.5.13|fork x old|err e-3|spread %|TFLOP/s"
    show(head.split("|"), table)
    return missed


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    return [asdict(row) | {"us": row.us} for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--more", action="store_true", help="also shapes that the fork did not measure")
    parser.add_argument("--borders", action="store_true", help="only shapes on the borders of the patch's rule")
    parser.add_argument("--sweep", type=float, default=0.0, metavar="SECONDS", help="then try a grid, for so long")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each tile, in turns (default 3)")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--compile-limit", type=float, default=150.0, metavar="SECONDS")
    parser.add_argument("--compile-share", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = list(BORDERS) if options.borders else [*SIX, *(MORE if options.more else ())]
    swept = shapes if options.sweep > 0 else []
    try:
        prepare()
        if options.compile_share:
            compile_share(compile_jobs(shapes, swept, options.borders), options.compile_share)
            return 0
        facts = machine() | {"compile": in_shares([__file__, *sys.argv[1:], "--compile-share"], options.compile_limit)}
        import sglang.srt.layers.attention.triton_ops.extend_attention  # noqa: F401
    except (CannotRun, ImportError) as error:
        print(f"extend_tile: cannot run: {error}")
        return 3
    print(facts, flush=True)
    rows: list[Row] = []
    for shape in shapes:
        rows += measure(shape, options.seed, facts["l2_bytes"], options.rounds)
    content = {"machine": facts, "rows": as_json(rows), "host_us": host_cost(SIX[4])}
    write_json("extend_tile.json", content)
    tried: list[Row] = []
    until = time.monotonic() + options.sweep
    for shape in swept:
        tried += sweep(shape, grid(shape, options.borders), options.seed, facts["l2_bytes"], until)
        write_json("extend_tile.json", content | {"sweep": as_json(tried)})
    for shape in swept:
        best = [row for row in tried if row.shape == shape.name and row.rounds and not row.problem][:3]
        print(f"best for {shape.name}:", "; ".join(f"{row.tile} {row.us:.2f} us" for row in best))
    missed = report(shapes, rows)
    print(f"host us a call: {content['host_us']}")
    print("\n".join(["missed:", *missed]) if missed else "all right, all goals met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
