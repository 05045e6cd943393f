"""How 0.5.18's classes are driven on a CPU: what is not here is as in `at_0_5_19`.

A request holds its row itself; of its lengths, `req.kv` holds those that have slots. Nothing translates KV indices yet.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive import at_0_5_13, at_0_5_19


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_19, name)


class Held:
    """A request and its `kv` as one: each name is where it is found."""

    __slots__ = ("_req",)

    def __init__(self, req: Any) -> None:
        object.__setattr__(self, "_req", req)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._holder(name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._holder(name), name, value)

    def _holder(self, name: str) -> Any:
        kv = getattr(self._req, "kv", None)
        return kv if kv is not None and hasattr(kv, name) else self._req


def held(req: Any) -> Any:
    return Held(req)


def row_holder() -> Any:
    return SimpleNamespace(req_pool_idx=None)


def begin_runner(runner: Any) -> None:
    runner.model.shared_experts_config = None  # what the model loader leaves on one without experts
    runner.__dict__["init_kv_index_translator"] = _nothing  # later drivers call it


def _nothing() -> None:
    pass


def bind_plan(runner: Any, batch: Any) -> None:
    """No plan in this release: what init_new leaves is all there is."""


def retract(batch: Any, args: Any) -> tuple[list[Any], list[Any]]:
    return at_0_5_13.retract(batch, args)


def split_tokens(runner: Any, model_config: Any, tokens: int, ratio: float) -> Any:
    """The ratio is asked of the arguments, as in 0.5.13; the rest as later."""
    from sglang.srt.model_executor.pool_configurator import HybridSWAPoolConfigurator

    asking: Any = SimpleNamespace(
        model_config=model_config,
        kv_cache_dtype=runner.kv_cache_dtype,
        kv_cache_dtype_str="auto",
        server_args=SimpleNamespace(swa_full_tokens_ratio=ratio, kv_cache_dtype="auto"),
        sliding_window_size=runner.sliding_window_size,
        page_size=runner.page_size,
        spec_algorithm=runner.spec_algorithm,
        spec_aux_config=SimpleNamespace(eagle_draft_num_layers=None),
        is_draft_worker=False,
    )
    return HybridSWAPoolConfigurator(asking).calculate_pool_sizes_from_max_tokens(tokens, runner.page_size)
