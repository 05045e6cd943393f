"""Upstream's one-launch Gemma-4 router against the torch chain it replaced: E 128, K 8, T 1 .. 8192.

    PYTHONPATH=SITE:. python3 benchmarks/router.py

Chain: top-k of the logits, softmax over the selected, times the expert's scale; fp32 weights, int32 ids. `post-topk`
is sglang's middle way (torch.topk, then one kernel), which 0.5.13 takes for other dtypes. The truth is float64. Ids
must be the same set a token up to ties: the chosen logits are the largest ones; weights to 1e-5 relative, by the
chosen expert. Checked on bf16 logits (many ties) and fp32 logits, scales 0.25 .. 4. Times are medians over CUDA graph
replays, so without host launches, of which the chain has several; `eager` is with them. Exit 0 right, 1 not, 3 cannot
run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from gpu import CannotRun, machine, prepare, show, time_calls, write_json

EXPERTS, K, TOLERANCE = 128, 8, 1e-5
TOKENS = tuple(2**power for power in range(14))
Router = Callable[[Any, Any], tuple[Any, Any]]


def chain(logits: Any, scale: Any) -> tuple[Any, Any]:
    """As Gemma4MoE's routing closure does it in plain torch, in fp32."""
    import torch

    top, ids = torch.topk(logits.float(), k=K, dim=-1)
    weights = torch.softmax(top, dim=-1) * scale[ids].float()
    return weights, ids.to(torch.int32)


def fused(logits: Any, scale: Any) -> tuple[Any, Any]:
    from sglang.srt.layers.gemma4_fused_ops import gemma4_fused_routing

    return gemma4_fused_routing(logits, scale, K)


def post_topk(logits: Any, scale: Any) -> tuple[Any, Any]:
    import torch
    from sglang.srt.layers.gemma4_fused_ops import gemma_routing_post_topk

    return gemma_routing_post_topk(*torch.topk(logits, k=K, dim=-1), scale)


ROUTERS: dict[str, Router] = {"chain": chain, "post-topk": post_topk, "fused": fused}


def inputs(tokens: int, dtype: Any, seed: int, device: str = "cuda") -> tuple[Any, Any]:
    """Logits [T, E] and per-expert scales [E] in 0.25 .. 4."""
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    logits = torch.randn(tokens, EXPERTS, generator=generator, device=device) * 3
    scale = torch.rand(EXPERTS, generator=generator, device=device).mul(4).sub(2).exp2()
    return logits.to(dtype), scale


def wrong(router: Router, logits: Any, scale: Any) -> tuple[float, str]:
    """(largest relative error of a weight, what else is wrong or "")."""
    import torch

    weights, ids = router(logits, scale)
    if (weights.dtype, ids.dtype) != (torch.float32, torch.int32) or weights.shape != (len(logits), K):
        return float("nan"), f"{weights.dtype} {tuple(weights.shape)}, {ids.dtype}"
    exact, at = logits.double(), ids.long()
    if int(at.min()) < 0 or int(at.max()) >= EXPERTS:
        return float("nan"), "an id that is no expert"
    if (at.sort(-1).values.diff(dim=-1) == 0).any():
        return float("nan"), "an expert twice for a token"
    true_top = exact.topk(K, dim=-1).values
    chosen = exact.gather(-1, at)
    if not torch.equal(chosen.sort(-1, descending=True).values, true_top):
        return float("nan"), "an expert that is not among the largest"
    true_weights = chosen.softmax(-1) * scale.double()[at]
    error = ((weights.double() - true_weights).abs() / true_weights).max().item()
    return error, "" if error < TOLERANCE else "weights"


def checked(tokens: int, seed: int, device: str = "cuda") -> tuple[dict[str, float], list[str]]:
    """Largest error of each router over the input kinds, and what is wrong."""
    import torch

    errors, problems = dict.fromkeys(ROUTERS, 0.0), []
    for index, dtype in enumerate((torch.bfloat16, torch.float32)):
        logits, scale = inputs(tokens, dtype, seed + index, device)
        for name, router in ROUTERS.items():
            error, problem = wrong(router, logits, scale)
            errors[name] = max(errors[name], error) if error == error else error
            if problem:
                problems.append(f"{name}, T {tokens}, {dtype}: {problem} ({error:.1e})")
    return errors, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20261122)
    options = parser.parse_args()
    try:
        prepare()
        import sglang.srt.layers.gemma4_fused_ops  # noqa: F401
        import torch
    except (CannotRun, ImportError) as error:
        print(f"router: cannot run: {error}")
        return 3
    facts, rows, table, problems = machine(), [], [], []
    print(facts, flush=True)
    for tokens in TOKENS:
        errors, bad = checked(tokens, options.seed + tokens)
        problems += bad
        # 8192 bf16 rows are 2 MB: in a server the router finds its logits in the cache too, so one set is enough.
        logits, scale = inputs(tokens, torch.bfloat16, options.seed)
        times = {name: time_calls([partial(router, logits, scale)] * 4, 0.05) for name, router in ROUTERS.items()}
        eager = eager_us(logits, scale)
        medians = {name: timing.median for name, timing in times.items()}
        rows.append({"tokens": tokens, "us": medians, "eager_us": eager, "error": errors})
        gains = [medians["chain"] / medians["fused"], eager["chain"] / eager["fused"]]
        table.append([tokens, *medians.values(), gains[0], eager["chain"], eager["fused"], gains[1]])
        table[-1].append(f"{errors['fused']:.1e}")
    write_json("router.json", {"machine": facts, "rows": rows, "problems": problems})
    head = "T|chain us|post-topk us|fused us|x|chain eager us|fused eager us|x|err of fused"
    show(head.split("|"), table)
    print("\n".join(["wrong:", *problems]) if problems else f"all right: ids up to ties, weights within {TOLERANCE}")
    return 1 if problems else 0


def eager_us(logits: Any, scale: Any) -> dict[str, float]:
    """Microseconds a call with host launches: many calls, one synchronisation."""
    import torch

    took = {}
    for name in ("chain", "fused"):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        runs = []
        for _ in range(5):
            torch.cuda.synchronize()
            start.record()
            for _ in range(50):
                ROUTERS[name](logits, scale)
            end.record()
            torch.cuda.synchronize()
            runs.append(start.elapsed_time(end) * 20)
        took[name] = sorted(runs)[2]
    return took


if __name__ == "__main__":
    sys.exit(main())
