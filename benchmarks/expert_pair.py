"""Gemma-4 26B-A4B with its experts and its vocabulary, over heads that XQA has, and an assistant to it.

`real_configs.py`'s geometry but for the full layers' heads (256 for 512) and pages of 64 tokens: some 50 GB of weights,
so a server has a GPU to itself. The assistant is that of the light shape (`servers.big_models`), with this vocabulary.
Its dummy weights want `real_plugin.py`, or every token goes to the same experts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import real_configs
import servers

from g4diag.stack.pairs import tiny_pair

HEAD = tiny_pair.HEAD_DIM
ENGINE: dict[str, Any] = {"moe_runner_backend": "triton", "context_length": tiny_pair.CONTEXT}


def geometry() -> real_configs.Geometry:
    """The 26B's, for XQA."""
    return replace(real_configs.MODELS["26b"], head_dims=(HEAD, HEAD), page_size=tiny_pair.ENGINE["page_size"])


def models(folder: Path) -> dict[str, str]:
    """Engine arguments that name the pair, as `servers.tiny_models`."""
    wanted = geometry()
    draft = tiny_pair.assistant_config(wanted.vocab)
    servers.shape_assistant(draft, wanted.hidden, wanted.heads, wanted.window)
    return {
        "model_path": str(real_configs.write(wanted, folder / "target")),
        "speculative_draft_model_path": str(tiny_pair.write_config(folder / "draft", draft)),
    }


def loaded(rows: list[list[float]], experts: int) -> tuple[int, float]:
    """(least experts that a layer's call used, largest share of one) of a census. ValueError when nothing was counted,
    or a call used under half of them: such weights are not the model's load."""
    if not rows:
        raise ValueError("no routing of 1024 tokens or more was counted")
    least, most = int(min(row[0] for row in rows)), max(row[1] for row in rows)
    if 2 * least < experts:
        raise ValueError(f"a call used {least} of {experts} experts")
    return least, most
