"""Hooks where a layer's new K/V is written: the pools' writes, by whichever backend, and a backend's own, which go
round them. Seen where the slots are used, so that a cure has had its say.

Not seen: writes of MLA pools whose class makes other slots of those it is handed, or of which ranks share a row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from g4diag.hooks.install import Hook
from g4diag.stack.backends.contract import Write, hook
from g4diag.stack.probes.forwards import Forward, Forwards
from g4diag.stack.probes.workers import Backends
from g4diag.stack.releases import current

_MLA_WRITES = ("pool.mla_write", "pool.mla_write_joined")


class Written(NamedTuple):
    """One write, nothing copied. pool: that the layer belongs to. slots: int[N] as handed. own: int[N], the batch's
    full slots. forward: at work meanwhile, None outside of a known backend's."""

    pool: Any
    layer: Any
    slots: Any
    own: Any
    forward: Forward | None


def write_hooks(backends: Backends, observe: Callable[[Written], None]) -> list[Hook]:
    """Of every backend and every pool. `observe` must not raise."""
    release, attentions = current(), backends.attentions
    seen = _Writes(Forwards(attentions), observe)
    writes = {write.point: write for each in attentions for write in each.writes_here()}  # one that some inherit once
    return [
        *seen.forwards.hooks(),
        release.hook("pool.hybrid_write", "before", seen.hybrid),
        release.hook("pool.plain_write", "before", seen.plain),
        *(release.hook(name, "before", seen.mla(name)) for name in _MLA_WRITES if release.has(name)),
        *(hook(point, "before", seen.own(write)) for point, write in writes.items()),
    ]


class _Writes:
    def __init__(self, forwards: Forwards, observe: Callable[[Written], None]) -> None:
        self.forwards, self._observe = forwards, observe

    def hybrid(self, pool: Any, layer: Any, loc: Any, *args: Any, **kwargs: Any) -> None:
        read = current().read
        full, swa = read.write_slots(loc, args, kwargs)
        is_swa = read.layer_is_swa(pool, layer.layer_id)
        if not is_swa or swa is not None:  # else upstream's own assertion has the word
            self._tell(pool, layer, swa if is_swa else full, full)

    def plain(self, pool: Any, layer: Any, loc: Any, *args: Any, **kwargs: Any) -> None:
        # Without a layer it is an SWAKVPool's write handed down to one of its two, seen already.
        if (forward := self.forwards.now) and layer is not None:
            full, _ = current().read.write_slots(loc, args, kwargs)
            self._tell(pool, layer, full, forward.forward_batch.out_cache_loc)

    def mla(self, name: str) -> Callable[..., None]:
        """Of that place."""
        owner, _, method = current().path(name).rpartition(".")

        def written(pool: Any, layer: Any, loc: Any, *args: Any, **kwargs: Any) -> None:
            if _defined_in(pool.__class__, method) == owner:
                self.plain(pool, layer, loc, *args, **kwargs)

        return written

    def own(self, write: Write) -> Callable[..., None]:
        def written(*args: Any, **kwargs: Any) -> None:
            forward, slots = self.forwards.now, write.slots(*args, **kwargs)
            if forward and slots is not None:
                pool, own = forward.backend.token_to_kv_pool, forward.forward_batch.out_cache_loc
                self._tell(pool, forward.layer, slots, own)

        return written

    def _tell(self, pool: Any, layer: Any, slots: Any, own: Any) -> None:
        # A cross-attention layer's slots are the encoder's. Where ranks share a row, a slot stands for its place in it.
        if not getattr(layer, "is_cross_attention", False) and getattr(pool, "_write_loc_dcp_span", 1) == 1:
            self._observe(Written(pool, layer, slots, own, self.forwards.now))


@cache
def _defined_in(kind: Any, method: str) -> str:
    """The dotted path of the class whose method of this name objects of `kind` have."""
    owner = next(base for base in kind.__mro__ if method in vars(base))
    return f"{owner.__module__}.{owner.__qualname__}"
