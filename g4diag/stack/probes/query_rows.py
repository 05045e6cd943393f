"""A QueryRows of every query that a backend hands to a kernel which takes its address and no strides: XQA.

Seen at the kernel's own call, so that a cure in the backend, ours or upstream's, has had its say; the forward around
it knows backend and layer. Host attributes only, so it runs while a graph is captured; what a replay reads was
captured here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import QueryRows
from g4diag.stack.backends.contract import Kernel, hook
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.probes.forwards import Forwards
from g4diag.stack.probes.page_table import phase_of
from g4diag.stack.probes.workers import Backends


class QueryRowsProbe:
    """sink takes each view."""

    def __init__(self, backends: Backends, sink: Callable[[QueryRows], None]) -> None:
        self._backends, self._sink = backends, sink
        self._forwards = Forwards(backends.attentions)

    def hooks(self) -> list[Hook]:
        """The backends' forwards, and the kernel's call in them."""
        kernels = [kernel for each in self._backends.attentions for kernel in each.kernels]
        return [*self._forwards.hooks(), *(hook(kernel.point, "before", self._called(kernel)) for kernel in kernels)]

    def _called(self, kernel: Kernel) -> Callable[..., None]:
        def called(*args: Any, **kwargs: Any) -> None:
            forward = self._forwards.now
            if forward is None or not self._backends.knows(forward.backend) or not kernel.applies(forward.backend):
                return
            backend, layer, forward_batch = forward
            query, worker = kernel.query(*args, **kwargs), self._backends.worker(backend)
            self._sink(
                QueryRows(
                    worker=worker,
                    phase=phase_of(forward_batch, worker),
                    path="graph" if self._backends.attention(backend).metadata_is_graph(backend) else "eager",
                    backend=type(backend).__name__,
                    layer_id=int(layer.layer_id),
                    rows=int(query.shape[0]),
                    row_elements=int(query.shape[1] * query.shape[2]),
                    row_stride=int(query.stride(0)),
                )
            )

        return called


def _make(context: Context, wanted: frozenset[type]) -> QueryRowsProbe:
    return QueryRowsProbe(context.workers, context.sink)


PROBE = Probe("query_rows", frozenset({QueryRows}), _make)
