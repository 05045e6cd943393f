"""A KVSlots of every K/V write of a layer: the pools' writes, by whichever backend, and a backend's own, which go round
them.

Seen where the slots are used, so that a cure has had its say. The space is told by the tensor's identity, so it runs
while a graph is captured; values are taken only where they are on the host already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import IndexSpace, KVSlots
from g4diag.stack.backends.contract import Write, hook
from g4diag.stack.probes.contract import Context, Probe
from g4diag.stack.probes.forwards import Forwards
from g4diag.stack.probes.page_table import phase_of
from g4diag.stack.probes.workers import Backends
from g4diag.stack.releases import current


class KVSlotsProbe:
    """sink takes each view."""

    def __init__(self, backends: Backends, sink: Callable[[KVSlots], None]) -> None:
        self._backends, self._sink = backends, sink
        self._forwards = Forwards(backends.attentions)

    def hooks(self) -> list[Hook]:
        """The backends' forwards, both pools' writes, and the backends' own."""
        release, attentions = current(), self._backends.attentions
        return [
            *self._forwards.hooks(),
            release.hook("pool.hybrid_write", "before", self._hybrid),
            release.hook("pool.plain_write", "before", self._plain),
            *(hook(write.point, "before", self._own(write)) for each in attentions for write in each.writes_here()),
        ]

    def _hybrid(self, pool: Any, layer: Any, loc: Any, *args: Any, **kwargs: Any) -> None:
        read = current().read
        full, swa = read.write_slots(loc, args, kwargs)
        is_swa = read.layer_is_swa(pool, layer.layer_id)
        if not is_swa or swa is not None:  # else upstream's own assertion has the word
            self._emit(pool, layer, swa if is_swa else full, full)

    def _plain(self, pool: Any, layer: Any, loc: Any, *args: Any, **kwargs: Any) -> None:
        # Without a layer it is an SWAKVPool's write handed down to one of its two, seen already.
        if (forward := self._forwards.now) and layer is not None:
            full, _ = current().read.write_slots(loc, args, kwargs)
            self._emit(pool, layer, full, forward.forward_batch.out_cache_loc)

    def _own(self, write: Write) -> Callable[..., None]:
        def written(*args: Any, **kwargs: Any) -> None:
            forward, slots = self._forwards.now, write.slots(*args, **kwargs)
            if forward and slots is not None:
                pool, own = forward.backend.token_to_kv_pool, forward.forward_batch.out_cache_loc
                self._emit(pool, forward.layer, slots, own)

        return written

    def _emit(self, pool: Any, layer: Any, slots: Any, own: Any) -> None:
        if getattr(layer, "is_cross_attention", False):  # whose slots are the encoder's
            return
        forward = self._forwards.now
        backend = forward.backend if forward else None
        worker = self._backends.owner(pool) if backend is None else self._backends.worker(backend)
        view, kind = self._backends.layer_pool(pool, int(layer.layer_id))
        on_host = not slots.is_cuda and slots.shape == own.shape
        full_N = _host(own) if on_host else None
        self._sink(
            KVSlots(
                worker=worker,
                phase=phase_of(forward.forward_batch, worker) if forward else "",
                path="graph" if backend and self._backends.attention(backend).metadata_is_graph(backend) else "eager",
                backend="" if backend is None else type(backend).__name__,
                layer_id=int(layer.layer_id),
                layer_kind=kind,
                pool=view,
                slots_space=IndexSpace.FULL_SLOT if slots.data_ptr() == own.data_ptr() else None,
                tokens=int(slots.shape[0]),
                slots_N=_host(slots) if on_host else None,
                full_slots_N=full_N,
                mapping=self._backends.mapping_of(pool, view.page_size) if on_host else None,
                handed_out_N=self._backends.handed_out.slots(pool, full_N)
                if full_N is not None and view.space.is_swa
                else None,
            )
        )


def _host(slots: Any) -> Any:
    return slots.detach().long().numpy().copy()


def _make(context: Context, wanted: frozenset[type]) -> KVSlotsProbe:
    return KVSlotsProbe(context.workers, context.sink)


PROBE = Probe("kv_slots", frozenset({KVSlots}), _make)
