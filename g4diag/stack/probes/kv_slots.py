"""A KVSlots of every K/V write of a layer.

The space is told by the tensor's identity, so it runs while a graph is captured; values are taken only where they are
on the host already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import IndexSpace, KVSlots
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.probes.page_table import phase_of
from g4diag.stack.probes.workers import Backends
from g4diag.stack.probes.written_slots import Written, write_hooks


class KVSlotsProbe:
    """sink takes each view."""

    def __init__(self, backends: Backends, sink: Callable[[KVSlots], None]) -> None:
        self._backends, self._sink = backends, sink

    def hooks(self) -> list[Hook]:
        """The backends' forwards, both pools' writes, and the backends' own."""
        return write_hooks(self._backends, self._written)

    def _written(self, written: Written) -> None:
        slots, own = written.slots, written.own
        on_host = not slots.is_cuda and slots.shape == own.shape
        self._sink(
            kv_slots(self._backends, written, _host(slots) if on_host else None, _host(own) if on_host else None)
        )


def kv_slots(backends: Backends, written: Written, slots_N: Any, full_N: Any) -> KVSlots:
    """The view of a write. slots_N, full_N: int64 host arrays, slots as handed and those of the batch, both None where
    they are not known; with them the mapping is copied."""
    forward, pool, known = written.forward, written.pool, full_N is not None
    backend = forward.backend if forward else None
    worker = backends.owner(pool) if backend is None else backends.worker(backend)
    layer_id = int(written.layer.layer_id)
    view, kind = backends.layer_pool(pool, layer_id)
    return KVSlots(
        worker=worker,
        phase=phase_of(forward.forward_batch, worker) if forward else "",
        path="graph" if backend and backends.attention(backend).metadata_is_graph(backend) else "eager",
        backend="" if backend is None else type(backend).__name__,
        layer_id=layer_id,
        layer_kind=kind,
        pool=view,
        slots_space=IndexSpace.FULL_SLOT if written.slots.data_ptr() == written.own.data_ptr() else None,
        tokens=int(written.slots.shape[0]),
        slots_N=slots_N,
        full_slots_N=full_N,
        mapping=backends.mapping_of(pool, view.page_size) if known else None,
        handed_out_N=backends.handed_out.slots(pool, full_N) if known and view.space.is_swa else None,
    )


def _host(slots: Any) -> Any:
    return slots.detach().long().numpy().copy()


def _make(context: Context, wanted: frozenset[type]) -> KVSlotsProbe:
    return KVSlotsProbe(context.workers, context.sink)


PROBE = Probe("kv_slots", frozenset({KVSlots}), _make)
