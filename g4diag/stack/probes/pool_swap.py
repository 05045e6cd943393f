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
from g4diag.stack.backends.wrappers import chosen, readers
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.probes.workers import Backends
from g4diag.stack.releases import current

_GRAPH_RUNNER = "FrozenKVMTPCudaGraphRunner"
VIEW_NAMES = ("frozen_kv_target_view", "target_kv_pool_view")
State = tuple[str, str | None]


class PoolSwapProbe:
    """sink takes one view an edge and backend that reads. Attributes only, so it may run while a graph is captured."""

    def __init__(self, backends: Backends, sink: Callable[[PoolSwap], None]) -> None:
        self._backends, self._sink = backends, sink

    def hooks(self) -> list[Hook]:
        """Both views, the graph runner's constructor, and each capture in it, which swaps the pool by itself."""
        release = current()
        views = [release.hook(f"view.{name}", "around", self._around(name)) for name in VIEW_NAMES]
        return [
            *views,
            release.hook("graph_runner.built", "after", self._graph_runner_built),
            release.hook("graph_runner.capture", "around", self._around_capture),
        ]

    def _around(self, site: str) -> Callable[..., Any]:
        @contextmanager
        def observed(original: Any, forward_batch: Any, kv_context: Any, draft_attn_backend: Any) -> Iterator[Any]:
            with (
                self._restores(site, draft_attn_backend),
                original(forward_batch, kv_context, draft_attn_backend) as value,
            ):
                with guard(f"observing {site}"):
                    for name, reader in chosen(draft_attn_backend, forward_batch, self._backends.knows):
                        self._emit(site, "enter", name, reader, wanted=kv_context.target_token_to_kv_pool)
                yield value

        return observed

    def _around_capture(self, original: Any, runner: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current().path("graph_runner.capture").rpartition(".")[2]
        with self._restores(f"{_GRAPH_RUNNER}.{capture}", runner.draft_attn_backend):
            return original(runner, *args, **kwargs)

    @contextmanager
    def _restores(self, site: str, backend: Any) -> Iterator[None]:
        """An exit view of every backend that may read, also when the body raises; its exception goes on untouched."""
        before: list[tuple[str, Any, State]] = []
        with guard(f"observing {site}"):
            before = [(name, reader, self._state(reader)) for name, reader in readers(backend, self._backends.knows)]
        try:
            yield
        finally:
            with guard(f"observing {site}"):
                for name, reader, state in before:
                    self._emit(site, "exit", name, reader, before=state)

    def _state(self, backend: Any) -> State:
        return str(self._backends.label(backend.token_to_kv_pool)), self._backends.label(
            self._backends.attention(backend).swa_state(backend)
        )

    def _emit(
        self, site: str, moment: str, name: str, backend: Any, before: State | None = None, wanted: Any = None
    ) -> None:
        pool, state = self._state(backend)
        self._sink(
            PoolSwap(
                site=site,
                moment=moment,
                backend=name,
                read_pool=pool,
                read_pool_is_swa=current().read.is_swa_pool(backend.token_to_kv_pool),
                swa_state=state,
                frozen_kv=True,
                before=before,
                wanted_pool=self._backends.label(wanted),
            )
        )

    def _graph_runner_built(self, result: Any, runner: Any, worker: Any) -> None:
        """By now any swap around the constructor is undone; the buffers it left say what the state was."""
        pool = worker.kv_context.target_token_to_kv_pool
        for name, backend in readers(worker.draft_attn_backend, self._backends.knows):
            tables = self._backends.attention(backend).graph_tables(backend)
            if tables is None:
                continue
            self._sink(
                PoolSwap(
                    site=f"{_GRAPH_RUNNER}.__init__",
                    moment="enter",
                    backend=name,
                    read_pool=str(self._backends.label(pool)),
                    read_pool_is_swa=current().read.is_swa_pool(pool),
                    swa_state=self._backends.label(pool) if tables else None,
                    frozen_kv=True,
                    graph_swa_tables=tables,
                )
            )


def _make(context: Context, wanted: frozenset[type]) -> PoolSwapProbe:
    return PoolSwapProbe(context.workers, context.sink)


PROBE = Probe("pool_swap", frozenset({PoolSwap}), _make)
