"""A PoolSwap view at each edge of the two frozen-KV views, and of the draft graph runner's constructor.

Hooked outermost, so that what it sees is the state after any patch has had its say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import PoolSwap
from g4diag.stack.probes.workers import Backends

VIEWS = "sglang.srt.speculative.frozen_kv_mtp_utils"
GRAPH_RUNNER = "sglang.srt.speculative.frozen_kv_mtp_cuda_graph_runner.FrozenKVMTPCudaGraphRunner"
VIEW_NAMES = ("frozen_kv_target_view", "target_kv_pool_view")
State = tuple[str, str | None]


class PoolSwapProbe:
    """sink takes one view an edge and backend that reads. Attributes only, so it may run while a graph is captured."""

    def __init__(self, backends: Backends, sink: Callable[[PoolSwap], None]) -> None:
        self._backends, self._sink = backends, sink

    def hooks(self) -> list[Hook]:
        """Both views, the graph runner's constructor, and each capture in it, which swaps the pool by itself."""
        views = [Hook(f"{VIEWS}.{name}", "around", self._around(name), observes=True) for name in VIEW_NAMES]
        return [
            *views,
            Hook(f"{GRAPH_RUNNER}.__init__", "after", self._graph_runner_built, observes=True),
            Hook(f"{GRAPH_RUNNER}.capture_one_batch_size", "around", self._around_capture, observes=True),
        ]

    def _around(self, site: str) -> Callable[..., Any]:
        @contextmanager
        def observed(original: Any, forward_batch: Any, kv_context: Any, draft_attn_backend: Any) -> Iterator[Any]:
            with (
                self._restores(site, draft_attn_backend),
                original(forward_batch, kv_context, draft_attn_backend) as value,
            ):
                with guard(f"observing {site}"):
                    for name, reader in _chosen(draft_attn_backend, forward_batch):
                        self._emit(site, "enter", name, reader, wanted=kv_context.target_token_to_kv_pool)
                yield value

        return observed

    def _around_capture(self, original: Any, runner: Any, *args: Any, **kwargs: Any) -> Any:
        with self._restores("FrozenKVMTPCudaGraphRunner.capture_one_batch_size", runner.draft_attn_backend):
            return original(runner, *args, **kwargs)

    @contextmanager
    def _restores(self, site: str, backend: Any) -> Iterator[None]:
        """An exit view of every backend that may read, also when the body raises; its exception goes on untouched."""
        before: list[tuple[str, Any, State]] = []
        with guard(f"observing {site}"):
            before = [(name, reader, self._state(reader)) for name, reader in _readers(backend)]
        try:
            yield
        finally:
            with guard(f"observing {site}"):
                for name, reader, state in before:
                    self._emit(site, "exit", name, reader, before=state)

    def _state(self, backend: Any) -> State:
        return str(self._backends.label(backend.token_to_kv_pool)), self._backends.label(backend._swa_kv_pool)

    def _emit(
        self, site: str, moment: str, name: str, backend: Any, before: State | None = None, wanted: Any = None
    ) -> None:
        from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

        pool, state = self._state(backend)
        self._sink(
            PoolSwap(
                site=site,
                moment=moment,
                backend=name,
                read_pool=pool,
                read_pool_is_swa=isinstance(backend.token_to_kv_pool, SWAKVPool),
                swa_state=state,
                frozen_kv=True,
                before=before,
                wanted_pool=self._backends.label(wanted),
            )
        )

    def _graph_runner_built(self, result: Any, runner: Any, worker: Any) -> None:
        """By now any swap around the constructor is undone; the buffers it left say what the state was."""
        from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

        pool = worker.kv_context.target_token_to_kv_pool
        for name, backend in _readers(worker.draft_attn_backend):
            if "page_table" not in backend.decode_cuda_graph_metadata:
                continue  # the child of a wrapper that takes no part in graphs
            tables = backend.decode_cuda_graph_metadata.get("swa_page_table") is not None
            self._sink(
                PoolSwap(
                    site="FrozenKVMTPCudaGraphRunner.__init__",
                    moment="enter",
                    backend=name,
                    read_pool=str(self._backends.label(pool)),
                    read_pool_is_swa=isinstance(pool, SWAKVPool),
                    swa_state=self._backends.label(pool) if tables else None,
                    frozen_kv=True,
                    graph_swa_tables=tables,
                )
            )


def _readers(backend: Any) -> Iterator[tuple[str, Any]]:
    """(name, backend) of each trtllm_mha backend at or below `backend`. A wrapper is known by its type alone:
    TRTLLMHAAttnBackend inherits a string attribute `decode_backend`."""
    from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend

    if isinstance(backend, HybridAttnBackend):
        for child in {id(child): child for child in (backend.prefill_backend, backend.decode_backend)}.values():
            yield from ((f"{type(backend).__name__}>{name}", reader) for name, reader in _readers(child))
    elif hasattr(backend, "_swa_kv_pool"):
        yield type(backend).__name__, backend


def _chosen(backend: Any, forward_batch: Any) -> list[tuple[str, Any]]:
    """The readers that this forward's mode chooses below a wrapper; the others may be in any state."""
    chosen, name = backend, ""
    while hasattr(chosen, "_select_backend"):
        name += f"{type(chosen).__name__}>"
        chosen = chosen._select_backend(forward_batch.forward_mode)
    return [(name + below, reader) for below, reader in _readers(chosen)]
