"""A KVSlots of every K/V write of a layer: of the pools' own writes, by whichever backend, and of TRTLLMHAAttnBackend's
fused FP8 write, which goes round them.

Seen where the slots are used, so that a cure has had its say. The space is told by the tensor's identity, so it runs
while a graph is captured; values are taken only where they are on the host already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.model import IndexSpace, KVSlots
from g4diag.stack.probes.forwards import Forwards
from g4diag.stack.probes.page_table import is_graph_metadata, phase_of
from g4diag.stack.probes.workers import BACKEND, Backends, layer_pool

_HYBRID = "sglang.srt.mem_cache.swa_memory_pool.SWAKVPool.set_kv_buffer"
_PLAIN = "sglang.srt.mem_cache.memory_pool.MHATokenToKVPool.set_kv_buffer"
_FUSED = f"{BACKEND.rpartition('.')[0]}.fused_fp8_set_kv_buffer"


class KVSlotsProbe:
    """sink takes each view."""

    def __init__(self, backends: Backends, sink: Callable[[KVSlots], None]) -> None:
        self._backends, self._sink = backends, sink
        self._forwards = Forwards()

    def hooks(self) -> list[Hook]:
        """Both forwards of the backend, both pools' writes, and the kernel of the fused one."""
        writes = ((_HYBRID, self._hybrid), (_PLAIN, self._plain), (_FUSED, self._fused))
        seen = [Hook(target, "before", call, observes=True) for target, call in writes]
        return [*self._forwards.hooks(), *seen]

    def _hybrid(self, pool: Any, layer: Any, loc: Any, *args: Any, swa_loc: Any = None, **kwargs: Any) -> None:
        if swa_loc is None and len(args) > 4:  # after K, V and their scales
            swa_loc = args[4]
        _, is_swa = pool.layers_mapping[layer.layer_id]
        if not is_swa or swa_loc is not None:  # else upstream's own assertion has the word
            self._emit(pool, layer, swa_loc if is_swa else loc, loc)

    def _plain(self, pool: Any, layer: Any, loc: Any, *args: Any, **kwargs: Any) -> None:
        # Without a layer it is an SWAKVPool's write handed down to one of its two, seen already.
        if (forward := self._forwards.now) and layer is not None:
            self._emit(pool, layer, loc, forward.forward_batch.out_cache_loc)

    def _fused(self, *args: Any, cache_loc: Any = None, **kwargs: Any) -> None:
        if forward := self._forwards.now:
            handed = args[4] if cache_loc is None else cache_loc  # after K, V and their caches
            pool, own = forward.backend.token_to_kv_pool, forward.forward_batch.out_cache_loc
            self._emit(pool, forward.layer, handed, own)

    def _emit(self, pool: Any, layer: Any, slots: Any, own: Any) -> None:
        if getattr(layer, "is_cross_attention", False):  # whose slots are the encoder's
            return
        forward = self._forwards.now
        backend = forward.backend if forward else None
        worker = self._backends.owner(pool) if backend is None else self._backends.worker(backend)
        view, kind = layer_pool(pool, int(layer.layer_id))
        on_host = not slots.is_cuda and slots.shape == own.shape
        self._sink(
            KVSlots(
                worker=worker,
                phase=phase_of(forward.forward_batch, worker) if forward else "",
                path="graph" if backend and is_graph_metadata(backend, backend.forward_metadata) else "eager",
                backend="" if backend is None else type(backend).__name__,
                layer_id=int(layer.layer_id),
                layer_kind=kind,
                pool=view,
                slots_space=IndexSpace.FULL_SLOT if slots.data_ptr() == own.data_ptr() else None,
                tokens=int(slots.shape[0]),
                slots_N=_host(slots) if on_host else None,
                full_slots_N=_host(own) if on_host else None,
                mapping=self._backends.mapping_of(pool, view.page_size) if on_host else None,
            )
        )


def _host(slots: Any) -> Any:
    return slots.detach().long().numpy().copy()
