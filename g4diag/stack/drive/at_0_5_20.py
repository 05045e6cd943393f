"""How 0.5.20's classes are driven on a CPU: what is not here is as in `at_0_5_21`.

Sizes of the parallel state are given, not asked for; the length that the window has left behind is a field.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive import at_0_5_21, at_0_5_23


def __getattr__(name: str) -> Any:
    return getattr(at_0_5_21, name)


def start_parallel(args: Any) -> None:
    import torch
    from sglang.srt.distributed import parallel_state
    from sglang.srt.layers import dp_attention

    if not parallel_state.model_parallel_is_initialized():
        parallel_state.init_distributed_environment(world_size=1, rank=0, local_rank=0, backend="gloo")
        parallel_state.initialize_model_parallel(1, backend="gloo")
    sizes = SimpleNamespace(hidden_size=1, dtype=torch.float32, hf_config=SimpleNamespace())
    dp_attention.initialize_dp_attention(args, sizes)


def runner_fields(args: Any) -> dict[str, Any]:
    from sglang.srt.distributed.parallel_state_wrapper import ParallelState

    return {**at_0_5_23.runner_fields(args), "ps": ParallelState.trivial()}


def finish_runner(runner: Any) -> None:
    from sglang.srt.model_executor.runner.eager_runner import EagerRunner

    runner.eager_runner = EagerRunner(runner)


def evicted_len(req: Any) -> int:
    return int(req.kv.swa_evicted_seqlen)
