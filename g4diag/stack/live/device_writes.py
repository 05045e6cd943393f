"""Where K/V is written inside a CUDA graph: the slots are checked on the device, right before the write.

The first layer of a graph that is handed a (slots, pool) pair launches `kernels/kv_slots_check`, which is captured with
it; other layers of the pair share it. Elsewhere the host's traps have the slots.
"""

from __future__ import annotations

from typing import Any

from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import KVSlots
from g4diag.stack.kernels.claims import SLOTS, SLOTS_REMAPPED
from g4diag.stack.live.device_boxes import Boxes, keep
from g4diag.stack.live.device_sites import TRAP_OF, WriteSite
from g4diag.stack.live.step_slots import StepSlots
from g4diag.stack.live.told_batch import ToldBatches, is_part
from g4diag.stack.probes import page_table as host
from g4diag.stack.probes.kv_slots import kv_slots
from g4diag.stack.probes.workers import Backends
from g4diag.stack.probes.written_slots import Written, write_hooks

_DRAFT_EXTENDS = ("draft_extend", "draft_extend_v2", "extend")
OF_WRITES = frozenset({TRAP_OF[SLOTS], TRAP_OF[SLOTS_REMAPPED]})


class WriteChecks:
    """launches: from Python, so no graph's replays."""

    def __init__(self, backends: Backends, boxes: Boxes, told: ToldBatches, claims: frozenset[str]) -> None:
        self._backends, self._boxes, self._told, self._claims = backends, boxes, told, claims
        self._steps = StepSlots()
        self.launches = 0

    def hooks(self) -> list[Hook]:
        """Every write of K/V, and where a draft's steps are handed their slots."""
        judges = TRAP_OF[SLOTS] in self._claims
        return [*write_hooks(self._backends, self._written), *(self._steps.hooks() if judges else ())]

    def _written(self, written: Written) -> None:
        with guard("checking K/V slots on the device"):
            if written.forward is not None and self._backends.knows(written.forward.backend):
                self._checked(written, written.forward.backend, written.forward.forward_batch)

    def _checked(self, written: Written, backend: Any, forward_batch: Any) -> None:
        attention, capturing = self._backends.attention(backend), host.is_capturing()
        if not capturing and not attention.metadata_is_graph(backend):
            return
        pool, _ = self._backends.layer_pool(written.pool, int(written.layer.layer_id))
        key = ("write", written.slots.data_ptr(), written.own.data_ptr(), pool.name, pool.num_pages, id(forward_batch))
        # A warm-up before capture outlives it in the metadata: nothing of it may be remembered.
        done = attention.metadata(backend).__dict__.setdefault("_g4diag_checked", {}) if capturing else {}
        if key not in done:
            done[key] = True
            self._launch(written, backend, forward_batch, key)

    def _launch(self, written: Written, backend: Any, forward_batch: Any, key: tuple[Any, ...]) -> None:
        from g4diag.stack.kernels.kv_slots_check import check_kv_slots

        view = kv_slots(self._backends, written, None, None)
        number = self._boxes.place(WriteSite(view, written), (id(backend), view.phase, *key))
        box, step_1 = self._boxes.of(view.worker)
        own = written.own if written.own is not None and written.own.shape == written.slots.shape else None
        if getattr(backend, "dcp_size", 1) > 1:  # each rank writes its part, to slots of its own count
            own = None
        mapping = getattr(written.pool, "full_to_swa_index_mapping", None) if view.pool.space.is_swa else None
        told_N = None
        if own is not None and TRAP_OF[SLOTS] in self._claims and not is_part(forward_batch):
            told_N = self._told_of(view, own)
        slots_M = None
        if mapping is not None and TRAP_OF[SLOTS_REMAPPED] in self._claims:
            slots_M = self._backends.handed_out.tensor(written.pool)
        if host.is_capturing():
            keep(slots_M, told_N, forward_batch)
        self.launches += 1
        check_kv_slots(
            written.slots,
            box,
            step_1,
            site=number,
            bound=view.pool.by_slot().num_pages,
            own_N=None if mapping is None and view.pool.space.is_swa else own,
            told_N=told_N,
            mapping=mapping,
            handed_out=slots_M,
        )

    def _told_of(self, view: KVSlots, own: Any) -> Any:
        """int64 [N] or more: where the device is told which of its batch's slots this forward writes to; None where
        nobody knows. All of them in their order, or of a draft's step a part of them."""
        writes_all = view.worker == "target" or view.phase in _DRAFT_EXTENDS
        if not writes_all and not self._steps.is_one(len(own)):
            return None
        told = self._told.of(view.worker, view.phase, own, requests=False)
        if told is None or writes_all:
            return None if told is None else told.slots_M
        return self._steps.of(told.slots_M)
