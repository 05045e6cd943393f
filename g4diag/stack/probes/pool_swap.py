"""A PoolSwap view at each edge of the two frozen-KV views, and of the draft graph runner's constructor.

Hooked outermost, so that what it sees is the state after any patch has had its say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from g4diag.guard import guard
from g4diag.model import PoolSwap
from g4diag.stack.hooks import Hook
from g4diag.stack.probes.backends import Backends

VIEWS = "sglang.srt.speculative.frozen_kv_mtp_utils"
GRAPH_RUNNER = "sglang.srt.speculative.frozen_kv_mtp_cuda_graph_runner.FrozenKVMTPCudaGraphRunner"


class PoolSwapProbe:
    """sink takes one view an edge. Reads attributes only, so it may run while a graph is captured."""

    def __init__(self, backends: Backends, sink: Callable[[PoolSwap], None]) -> None:
        self._backends, self._sink = backends, sink

    def hooks(self) -> list[Hook]:
        """Both views and the graph runner's constructor."""
        names = ("frozen_kv_target_view", "target_kv_pool_view")
        views = [Hook(f"{VIEWS}.{name}", "around", self._around(name), observes=True) for name in names]
        return [*views, Hook(f"{GRAPH_RUNNER}.__init__", "after", self._graph_runner_built, observes=True)]

    def _around(self, site: str) -> Callable[..., Any]:
        @contextmanager
        def observed(original: Any, forward_batch: Any, kv_context: Any, draft_attn_backend: Any) -> Iterator[Any]:
            before = None
            with guard(f"observing {site}"):
                before = self._state(draft_attn_backend)
            with original(forward_batch, kv_context, draft_attn_backend) as value:
                with guard(f"observing {site}"):
                    self._emit(site, "enter", draft_attn_backend)
                yield value
            with guard(f"observing {site}"):
                self._emit(site, "exit", draft_attn_backend, before=before)

        return observed

    def _state(self, backend: Any) -> tuple[str, str | None]:
        return (
            str(self._backends.label(backend.token_to_kv_pool)),
            self._backends.label(getattr(backend, "_swa_kv_pool", None)),
        )

    def _emit(self, site: str, moment: str, backend: Any, before: tuple[str, str | None] | None = None) -> None:
        from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

        if not hasattr(backend, "_swa_kv_pool"):
            return
        pool, state = self._state(backend)
        self._sink(
            PoolSwap(
                site=site,
                moment=moment,
                backend=type(backend).__name__,
                read_pool=pool,
                read_pool_is_swa=isinstance(backend.token_to_kv_pool, SWAKVPool),
                swa_state=state,
                frozen_kv=True,
                before=before,
            )
        )

    def _graph_runner_built(self, result: Any, runner: Any, worker: Any) -> None:
        """By now any swap around the constructor is undone; the buffers it left say what the state was."""
        from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

        backend, pool = worker.draft_attn_backend, worker.kv_context.target_token_to_kv_pool
        if not hasattr(backend, "_swa_kv_pool"):
            return
        tables = backend.decode_cuda_graph_metadata.get("swa_page_table") is not None
        self._sink(
            PoolSwap(
                site="FrozenKVMTPCudaGraphRunner.__init__",
                moment="enter",
                backend=type(backend).__name__,
                read_pool=str(self._backends.label(pool)),
                read_pool_is_swa=isinstance(pool, SWAKVPool),
                swa_state=self._backends.label(pool) if tables else None,
                frozen_kv=True,
                graph_swa_tables=tables,
            )
        )
