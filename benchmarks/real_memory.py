"""What mm-disabled gives Gemma-4 31B in memory, and the pools that real_models.py's servers should have, on the CPU.

    .venv/bin/python benchmarks/real_memory.py [--gib 140.4]

sglang 0.5.23's own classes, told how much memory a GPU has: ServerArgs resolves the static memory fraction with
multimodal on, as released, and off; its model on the meta device has the weights, with its towers and without, which
the patch mm-disabled does not build; HybridSWAPoolConfigurator divides what is left. Left is fraction x memory -
weights: a server has some less, for CUDA's context and what is held at load. Prefill graphs, which a server on a GPU
has where multimodal is off, take part of the fraction back and are not in this. Exit 3 when it cannot run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import real_configs
import servers
from real_configs import MODELS, Geometry

# (machine, MiB by nvidia-smi, GPUs)
MACHINES = (("H100", 81_559, 2), ("H200", 143_771, 1))


@dataclass(frozen=True)
class Memory:
    """One way to serve. fraction: static. weights: bytes a GPU; full: tokens of the full pool."""

    machine: str
    gpus: int
    served: str
    fraction: float
    weights: int
    full: int


def resolved(path: Path, mib: int, gpus: int, page_size: int, multimodal: bool | None, **more: Any) -> dict[str, Any]:
    """ServerArgs as a machine with GPUs of so many MiB resolves them."""
    from sglang.srt.arg_groups import memory_hook
    from sglang.srt.server_args import ServerArgs

    given = {"model_path": str(path), "skip_tokenizer_init": True, "load_format": "dummy", "tp_size": gpus}
    given |= {"attention_backend": "triton", "page_size": page_size, "enable_multimodal": multimodal}
    asked, memory_hook.get_device_memory_capacity = memory_hook.get_device_memory_capacity, lambda device: mib
    try:
        args = ServerArgs(**(given | more), device="cuda")
        args.resolve_once()
    finally:
        memory_hook.get_device_memory_capacity = asked
    found: dict[str, Any] = args.resolved_dict()
    return found


def divided(geometry: Geometry, folder: Path, ratio: float, budget: int) -> tuple[int, int]:
    """(full, SWA) tokens that `budget` bytes make, by sglang's configurator. Those of all GPUs together, where the K/V
    heads are shared out evenly."""
    import torch
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.model_executor.pool_configurator import HybridSWAPoolConfigurator, create_memory_pool_configurator
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    from g4diag.stack.drive import cpu

    args = cpu.server_args(swa_full_tokens_ratio=ratio, page_size=geometry.page_size)
    cpu.start_process(args)
    made = ModelConfig(str(real_configs.write(geometry, folder)), dtype="bfloat16")
    layers = SimpleNamespace(
        full_attention_layer_ids=made.full_attention_layer_ids, swa_attention_layer_ids=made.swa_attention_layer_ids
    )
    asked = SimpleNamespace(
        model_config=made,
        server_args=args,
        kv_cache_dtype=torch.bfloat16,
        kv_cache_dtype_str="auto",
        is_hybrid_swa=made.is_hybrid_swa,
        layer_info=layers,
        sliding_window_size=geometry.window - 1,
        page_size=geometry.page_size,
        spec_algorithm=SpeculativeAlgorithm.NONE,
        is_draft_worker=False,
        fused_entry_bytes=lambda side: None,
    )
    found = create_memory_pool_configurator(asked)
    assert isinstance(found, HybridSWAPoolConfigurator), found
    sizes = found.calculate_pool_sizes(budget, geometry.page_size)
    return sizes.full_max_total_num_tokens, sizes.swa_max_total_num_tokens


def ways(folder: Path) -> Iterator[Memory]:
    """31B with multimodal as released, off, and off without towers, at the released ratio of 0.8."""
    geometry = MODELS["31b"]
    size = real_configs.weights(geometry, folder)
    path = real_configs.write(geometry, folder)
    for machine, mib, gpus in MACHINES:
        for served, multimodal, weights in (
            ("as released", None, size["all"]),
            ("multimodal off", False, size["all"]),
            ("mm-disabled", False, size["all"] - size["towers"]),
        ):
            fraction = resolved(path, mib, gpus, geometry.page_size, multimodal)["mem_fraction_static"]
            budget = int(fraction * mib * 2**20) - weights // gpus
            full, _ = divided(geometry, folder, 0.8, budget * gpus)
            yield Memory(machine, gpus, served, fraction, weights // gpus, full)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=140.4, help="memory of the GPU that real_models.py runs on")
    options = parser.parse_args()
    if str(servers.ROOT) not in sys.path:
        sys.path.append(str(servers.ROOT))
    from g4diag.errors import CannotRunError
    from g4diag.stack.drive import cpu

    try:
        cpu.prepare_environment()
        import sglang.kernels  # noqa: F401  since 0.5.16; the names used here are 0.5.23's
    except (CannotRunError, ImportError) as error:
        print(f"real_memory: cannot run: {error}")
        return 3
    folder = Path(tempfile.mkdtemp(prefix="g4-real-memory-"))
    found = list(ways(folder))
    base = {row.machine: row for row in found if row.served == "as released"}
    lines = []
    for row in found:
        more = f"{row.full / base[row.machine].full - 1:+.1%}"
        figures = (f"{row.fraction:.3f}", f"{row.weights / 1e9:.2f}", f"{row.full:,}", more)
        lines.append((row.machine, row.gpus, row.served, *figures))
    head = ("31B, ratio 0.8", "GPUs", "served", "fraction", "weights a GPU, GB", "full tokens", "to as released")
    servers.show(head, lines)
    print("the fork, two H100: fraction 0.712 -> 0.778, KV tokens +21.6 %")
    rows = []
    for name in ("26b", "31b"):
        geometry = MODELS[name]
        size = real_configs.weights(geometry, folder)
        for ratio in (0.8, 0.15):
            pools = divided(geometry, folder, ratio, int(0.9 * options.gib * 2**30) - size["all"])
            rows.append([name, ratio, f"{size['all'] / 1e9:.1f}", *(f"{tokens:,}" for tokens in pools)])
    print(f"pools at a static fraction of 0.9 of {options.gib} GiB, at most:")
    servers.show(("model", "ratio", "weights, GB", "full tokens", "SWA tokens"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
