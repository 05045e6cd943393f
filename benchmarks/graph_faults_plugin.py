"""The `g4faults` sglang plugin: faults inside captured CUDA graphs of trtllm_mha, each switched on by a device flag.

After a graph's own metadata is built, captured operations change it by flags that are zero: lengths and tables. The
rest changes what the graph reads and puts it back: slots, the mapping, a request's row. So one server runs fault after
fault in replays, where no Python runs. GRAPHFAULTS: a folder; faults.jsonl there has a row a fault, with what each trap
counted meanwhile. GRAPHFAULTS_ALONE: the one fault that this server runs. For 0.5.23, which records the metadata in the
graph.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graph_faults_buffers import PLACES, Buffers
from graph_faults_drive import Drive

BACKEND = "sglang.srt.layers.attention.trtllm_mha_backend.TRTLLMHAAttnBackend"
TRITON = "sglang.srt.layers.attention.triton_backend.TritonAttnBackend"
SCHEDULER = "sglang.srt.managers.scheduler.Scheduler"
# By flag: the fault's name in docs/injected-faults.md, where it is there. runner-not-filled: of a static buffer.
FLAGS = (
    "stale-lengths-replayed",
    "another-row-in-table",
    "translated-twice",
    "undivided",
    "slots-for-pages",
    "another-row-in-batch",
    "runner-not-filled",
    "swa-table-of-others",
)
LENGTHS, FLIPPED, TWICE, UNDIVIDED, FOR_PAGES, ROWS, NOT_FILLED, SWA_FLIPPED = range(len(FLAGS))
# Where triton, which verifies, fills the slots that its graph writes to: on the host, before each replay.
WRITES = ("swa-write-step-old", "negative-write")
# These may take the server's context with them: each has a server of its own.
ALONE = ("undivided", "slots-for-pages", "negative-write", "negative-at-page-start")


class Flags:
    """int32[len(FLAGS)] on the device, made at the first capture."""

    def __init__(self) -> None:
        self._flags: Any = None
        self.captured = 0

    def on(self, name: str, value: int) -> None:
        """Set one."""
        self._flags[FLAGS.index(name)] = value

    def around(self, original: Any, backend: Any, forward_batch: Any) -> Any:
        """Hook around `init_forward_metadata_in_graph`: what is added here is recorded in the graph."""
        import torch

        if self._flags is None:
            self._flags = torch.zeros(len(FLAGS), dtype=torch.int32, device=forward_batch.seq_lens.device)
        flags, rows = self._flags, forward_batch.req_pool_indices
        rows.copy_(torch.where(flags[ROWS] > 0, rows.flip(0), rows))
        lens = forward_batch.seq_lens
        lens.sub_(flags[NOT_FILLED] * (lens > 1))
        result = original(backend, forward_batch)
        self.captured += 1
        self._change(backend, backend.forward_metadata, flags)
        return result

    def _change(self, backend: Any, metadata: Any, flags: Any) -> None:
        import torch

        page = backend.page_size
        lens = metadata.cache_seqlens_int32
        lens.sub_(flags[LENGTHS] * (lens > 1))
        for table in filter(lambda found: found is not None, (metadata.page_table, metadata.swa_page_table)):
            table.copy_(torch.where(flags[FLIPPED] > 0, table.flip(0), table))
        metadata.page_table.mul_(1 + flags[FOR_PAGES] * (page - 1))
        if (swa := metadata.swa_page_table) is not None:
            mapping = backend._swa_full_to_swa_mapping
            again = mapping[(swa.long() * page).clamp(0, len(mapping) - 2)] // page
            swa.copy_(torch.where(flags[TWICE] > 0, again.to(swa.dtype), swa))
            swa.copy_(torch.where(flags[SWA_FLIPPED] > 0, swa.flip(0), swa))
            swa.mul_(1 + flags[UNDIVIDED] * (page - 1))


class Slots:
    """What a graph of triton's writes to, changed after it was filled. on: of WRITES, "" for none."""

    def __init__(self) -> None:
        self.on = ""
        self.filled = 0

    def after(self, slots: Any, backend: Any, *args: Any, **kwargs: Any) -> None:
        """Hook after `_fill_cuda_graph_swa_out_cache_loc`."""
        if slots is None:
            return
        self.filled += 1
        if self.on == "swa-write-step-old":
            slots.sub_((slots > 1).to(slots.dtype))
        elif self.on == "negative-write":
            slots.fill_(-1)


def _slots(scheduler: Any, req: Any, back: int) -> Any:
    """A running request's slots of its last full page, or of one so many pages before."""
    pool, page = scheduler.req_to_token_pool, scheduler.page_size
    row, end = req.kv.req_pool_idx, len(req.origin_input_ids) + len(req.output_ids) - 2
    first = (end // page - 1 - back) * page
    return row, first, pool.req_to_token[row, first : first + page].long()


def _mapping(scheduler: Any) -> Any:
    return scheduler.token_to_kv_pool_allocator.full_to_swa_index_mapping


def _put(tensor: Any, at: Any, values: Any) -> Callable[[], None]:
    kept = tensor[at].clone()
    tensor[at] = values

    def back() -> None:
        tensor[at] = kept

    return back


def _window_lost(scheduler: Any, batch: Any) -> Callable[[], None]:
    return _put(_mapping(scheduler), _slots(scheduler, batch.reqs[0], 0)[2], 0)


def _runs_swapped(scheduler: Any, batch: Any) -> Callable[[], None]:
    import torch

    mapping = _mapping(scheduler)
    first, second = (_slots(scheduler, req, 0)[2] for req in batch.reqs[:2])
    return _put(mapping, torch.cat([first, second]), torch.cat([mapping[second], mapping[first]]))


def _negative_row(scheduler: Any, batch: Any) -> Callable[[], None]:
    row, first, _ = _slots(scheduler, batch.reqs[0], 0)
    return _put(scheduler.req_to_token_pool.req_to_token, (row, first), -1)


STATE: dict[str, Callable[[Any, Any], Callable[[], None]]] = {
    "window-page-short": _window_lost,
    "mapping-runs-swapped": _runs_swapped,
    "negative-at-page-start": _negative_row,
}


def names() -> list[str]:
    """What one server runs, in order."""
    return ["healthy", *(name for name in (*FLAGS, *WRITES, *STATE) if name not in ALONE)]


def register() -> None:
    """Entry point."""
    folder, alone = Path(os.environ["GRAPHFAULTS"]), os.environ.get("GRAPHFAULTS_ALONE")
    if alone in PLACES:
        _into_buffers(folder, alone)
    else:
        _into_graphs(folder, ["healthy", alone] if alone else names())


def _into_graphs(folder: Path, faults: list[str]) -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    flags, slots = Flags(), Slots()

    def put(name: str, scheduler: Any, batch: Any) -> Callable[[], None]:
        if name in FLAGS:
            flags.on(name, 1)
            return lambda: flags.on(name, 0)
        if name in WRITES:
            slots.on = name
            return lambda: setattr(slots, "on", "")
        return STATE[name](scheduler, batch)

    drive = Drive(folder, faults, put, lambda: flags.captured)
    HookRegistry.register(f"{BACKEND}.init_forward_metadata_in_graph", flags.around, HookType.AROUND)
    HookRegistry.register(f"{TRITON}._fill_cuda_graph_swa_out_cache_loc", slots.after, HookType.AFTER)
    HookRegistry.register(f"{SCHEDULER}.get_next_batch_to_run", drive.after, HookType.AFTER)


def _into_buffers(folder: Path, place: str) -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    buffers, (target, mode, faults) = Buffers(place), PLACES[place]
    drive = Drive(
        folder, ["healthy", *faults], lambda name, scheduler, batch: buffers.put(name), lambda: buffers.filled, mode
    )
    HookRegistry.register(target, buffers.around, HookType.AROUND)
    HookRegistry.register(f"{SCHEDULER}.get_next_batch_to_run", drive.after, HookType.AFTER)
