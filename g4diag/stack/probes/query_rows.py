"""A QueryRows of every query that a TRTLLMHAAttnBackend hands to FlashInfer's XQA.

Seen at the kernel's own call, so that a cure in the backend, ours or upstream's, has had its say; the forward around
it knows backend and layer. Host attributes only, so it runs while a graph is captured; what a replay reads was
captured here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import QueryRows
from g4diag.stack.probes.forwards import Forwards
from g4diag.stack.probes.page_table import is_graph_metadata, phase_of
from g4diag.stack.probes.workers import Backends

KERNEL = "flashinfer.decode.trtllm_batch_decode_with_kv_cache"


class QueryRowsProbe:
    """sink takes each view."""

    def __init__(self, backends: Backends, sink: Callable[[QueryRows], None]) -> None:
        self._backends, self._sink = backends, sink
        self._forwards = Forwards()

    def hooks(self) -> list[Hook]:
        """Both forwards of the backend, and the kernel's call in them."""
        return [*self._forwards.hooks(), Hook(KERNEL, "before", self._called, observes=True)]

    def _called(self, *args: Any, **kwargs: Any) -> None:
        forward = self._forwards.now
        if forward is None or not forward.backend.is_xqa_impl:
            return
        query = kwargs["query"] if "query" in kwargs else args[0]
        backend, layer, forward_batch = forward
        worker = self._backends.worker(backend)
        self._sink(
            QueryRows(
                worker=worker,
                phase=phase_of(forward_batch, worker),
                path="graph" if is_graph_metadata(backend, backend.forward_metadata) else "eager",
                backend=type(backend).__name__,
                layer_id=int(layer.layer_id),
                rows=int(query.shape[0]),
                row_elements=int(query.shape[1] * query.shape[2]),
                row_stride=int(query.stride(0)),
            )
        )
