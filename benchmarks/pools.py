"""The pool sizes of the fork pyc96/sglang, recomputed by sglang's own configurator, on the CPU, from a byte budget.

    .venv/bin/python benchmarks/pools.py

Geometry goes through transformers' Gemma4Config and sglang's ModelConfig, the division through
HybridSWAPoolConfigurator.calculate_pool_sizes. Two questions for each model. With the budget as the fork states it, in
five and three digits: within 0.1 % of the fork's four numbers, page rounding aside? And is there one budget, the same
for both ratios, that gives them to the token? Page size 1 for the 26B and 64 for the 31B: the fork's own numbers say
so.
Exit 0 as expected, 1 not, 3 cannot run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table

TOLERANCE, WINDOW = 1e-3, 1024


@dataclass(frozen=True)
class Model:
    """full, swa: (layers, K/V heads, head_dim). budget: bytes.
    reported: what the fork says, ratio -> (full tokens, SWA tokens)."""

    name: str
    full: tuple[int, int, int]
    swa: tuple[int, int, int]
    page_size: int
    budget: float
    reported: dict[float, tuple[int, int]]


MODELS = (
    Model(
        "26B-A4B",
        (5, 2, 512),
        (25, 8, 256),
        1,
        1.0948e11,
        {0.8: (593_956, 475_164), 0.15: (2_138_243, 320_736)},
    ),
    Model(
        "31B",
        (10, 4, 512),
        (50, 16, 256),
        64,
        9.80e10,
        {0.8: (132_992, 106_368), 0.15: (478_720, 71_808)},
    ),
)


@dataclass(frozen=True)
class Pools:
    """One division. reported: what the fork says of it."""

    model: str
    ratio: float
    budget: float
    full: int
    swa: int
    reported: tuple[int, int]

    @property
    def errors(self) -> tuple[float, float]:
        """Relative to the fork's full and SWA tokens."""
        return self.full / self.reported[0] - 1, self.swa / self.reported[1] - 1


def configurator(model: Model, ratio: float) -> Any:
    """sglang's configurator for this model: the real ModelConfig, a runner of the attributes it reads."""
    import torch
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.model_executor.pool_configurator import HybridSWAPoolConfigurator, create_memory_pool_configurator
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    from g4diag.stack.drive import cpu

    args = cpu.server_args(swa_full_tokens_ratio=ratio, page_size=model.page_size)
    cpu.start_process(args)
    with tempfile.TemporaryDirectory() as folder:
        _write_config(model, Path(folder))
        config = ModelConfig(folder, dtype="bfloat16")
    layers = SimpleNamespace(
        full_attention_layer_ids=config.full_attention_layer_ids,
        swa_attention_layer_ids=config.swa_attention_layer_ids,
    )
    # 0.5.13 asks for the first four, 0.5.23 for all.
    runner = SimpleNamespace(
        model_config=config,
        server_args=args,
        kv_cache_dtype=torch.bfloat16,
        is_hybrid_swa=config.is_hybrid_swa,
        kv_cache_dtype_str="auto",
        layer_info=layers,
        sliding_window_size=WINDOW - 1,
        page_size=model.page_size,
        spec_algorithm=SpeculativeAlgorithm.NONE,
        is_draft_worker=False,
        fused_entry_bytes=lambda side: None,
    )
    made = create_memory_pool_configurator(runner)
    assert isinstance(made, HybridSWAPoolConfigurator), made
    return made


def divided(model: Model, ratio: float, budget: float) -> Pools:
    """The pools that `budget` bytes make."""
    sizes = configurator(model, ratio).calculate_pool_sizes(int(budget), model.page_size)
    full, swa = sizes.full_max_total_num_tokens, sizes.swa_max_total_num_tokens
    return Pools(model.name, ratio, budget, full, swa, model.reported[ratio])


def common_budget(model: Model) -> tuple[int, int] | None:
    """First and last byte budget that gives the fork's full tokens at every ratio; None if there is none."""
    lows, highs = [], []
    for ratio, (full, _) in model.reported.items():
        made = configurator(model, ratio)
        low = int(full * made._cell_size)
        lows.append(next(b for b in (low, low + 1) if _full(made, b, model) == full))
        high = int((full + model.page_size) * made._cell_size)
        highs.append(next(b for b in (high, high - 1, high - 2) if _full(made, b, model) == full))
    return (max(lows), min(highs)) if max(lows) <= min(highs) else None


def _full(made: Any, budget: int, model: Model) -> int:
    return made.calculate_pool_sizes(budget, model.page_size).full_max_total_num_tokens


def _write_config(model: Model, folder: Path) -> None:
    from transformers import Gemma4Config, Gemma4TextConfig

    # One full layer after every five sliding ones, as in the published models.
    types = ["sliding_attention"] * 5 + ["full_attention"]
    text = Gemma4TextConfig(
        num_hidden_layers=model.full[0] + model.swa[0],
        layer_types=types * model.full[0],
        num_key_value_heads=model.swa[1],
        head_dim=model.swa[2],
        num_global_key_value_heads=model.full[1],
        global_head_dim=model.full[2],
        attention_k_eq_v=True,
    )
    config = Gemma4Config(text_config=text.to_dict())
    config.architectures = ["Gemma4ForConditionalGeneration"]
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str), encoding="utf-8")


def table(title: str, rows: list[Pools]) -> Table:
    out = Table("model", "ratio", "budget, bytes", "full", "fork's", "off %", "SWA", "fork's", "off %", title=title)
    for row in rows:
        off = [f"{error * 100:+.4f}" for error in row.errors]
        tokens = [f"{row.full:,}", f"{row.reported[0]:,}", off[0], f"{row.swa:,}", f"{row.reported[1]:,}", off[1]]
        out.add_row(row.model, f"{row.ratio}", f"{row.budget:,.0f}", *tokens)
    return out


def main() -> int:
    from g4diag.errors import CannotRunError
    from g4diag.stack.drive import cpu

    console = Console(width=120)
    try:
        cpu.prepare_environment()
        stated = [divided(model, ratio, model.budget) for model in MODELS for ratio in model.reported]
        spans = {model.name: common_budget(model) for model in MODELS}
        exact = [
            divided(model, ratio, span[0])
            for model in MODELS
            for ratio in model.reported
            if (span := spans[model.name])
        ]
    except (CannotRunError, ImportError) as error:
        console.print(f"pools: cannot run: {error}", markup=False)
        return 3
    console.print(table("the fork's budgets", stated), table("one budget for both ratios", exact))
    for model in MODELS:
        span = spans[model.name]
        console.print(f"{model.name}: {f'{span[0]:,} .. {span[1]:,} bytes' if span else 'no such budget'}")
    beyond = [row for row in stated if max(map(abs, row.errors)) > TOLERANCE]
    for row in beyond:
        model = next(m for m in MODELS if m.name == row.model)
        span = spans[model.name]
        because = (
            "of a reason unknown" if span is None else f"{row.budget:.2e} is rounded ({row.budget / span[0] - 1:+.3%})"
        )
        page = f"and a page of {model.page_size} is {model.page_size / row.reported[1]:.3%} of the SWA pool"
        console.print(f"{row.model} at {row.ratio}: past 0.1 % because {because} {page}", highlight=False)
    path = Path(os.environ.get("OUT", "."), "pools.json")
    if "OUT" in os.environ:
        path.write_text(json.dumps([asdict(row) for row in (*stated, *exact)], indent=1) + "\n", encoding="utf-8")
    right = len(exact) == 4 and all(row.errors == (0.0, 0.0) for row in exact)
    console.print("all four pairs to the token" if right else "not reproduced")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
