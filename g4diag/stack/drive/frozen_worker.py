"""A frozen-KV draft's worker, its views and its graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.driver import driver


def worker_fields(args: Any, runner: Any, kv_context: Any) -> dict[str, Any]:
    """What every release's constructor gives a worker. args: speculation with topk 1. runner: it has its backend."""
    return {
        "server_args": args,
        "topk": 1,
        "speculative_num_steps": args.speculative_num_steps,
        "speculative_num_draft_tokens": args.speculative_num_draft_tokens,
        "device": "cpu",
        "page_size": args.page_size,
        "_model_runner": runner,
        "draft_attn_backend": runner.attn_backend,
        "kv_context": kv_context,
    }


def target_view(worker: Any) -> Any:
    """The view that frozen_kv_target_view opens for this worker's backend, over a decode's batch that has no draft."""
    from sglang.srt.model_executor.forward_batch_info import ForwardMode
    from sglang.srt.speculative.frozen_kv_mtp_utils import frozen_kv_target_view

    batch = SimpleNamespace(spec_info=None, forward_mode=ForwardMode.DECODE)
    return frozen_kv_target_view(batch, worker.kv_context, worker.draft_attn_backend)


def pool_state(backend: Any) -> tuple[Any, Any]:
    """(pool, SWA state) of a backend: the objects that say whose K/V it reads. A wrapper has no SWA state."""
    return backend.token_to_kv_pool, getattr(backend, "_swa_kv_pool", None)


def pool_state_in_view(backend: Any, target: Any) -> tuple[Any, Any]:
    """What `pool_state` must be inside a view of the target's pool."""
    return target, target if hasattr(backend, "_swa_kv_pool") else None


def lose_swa_state(backend: Any) -> None:
    """From here on the backend takes every layer for a full one."""
    backend._swa_kv_pool = None


def replay_of(graphs: Any) -> Callable[[Any], Any]:
    """What runs a batch through a graph runner's captured graphs."""
    return partial(driver().replay, graphs)


def closure_graph_runner(worker: Any) -> Any:
    """A graph runner of this worker's, captured: a "graph" is a closure over its static buffers."""
    return driver().graph_runner(worker)


def captured_rows(graphs: Any) -> list[int]:
    """The batch sizes that a graph runner has captured."""
    return list(graphs.capture_bs)


def replayed_rows(graphs: Any) -> int:
    """The batch size of the graph that was replayed last, padding included."""
    return int(graphs.bs)


def captured_metadata(worker: Any, rows: int) -> Any:
    """What the draft's backend has kept for its graph of so many rows."""
    return worker.draft_attn_backend.decode_cuda_graph_metadata[rows]


def keep_metadata_in_replay(worker: Any) -> None:
    """From here on a replay reads the metadata of the one before, whether the host writes it or the graph itself."""
    worker._init_frozen_kv_metadata_replay_cuda_graph = lambda *args: None
    worker.draft_attn_backend.init_forward_metadata_in_graph = lambda *args: None
