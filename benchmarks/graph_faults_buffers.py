"""Faults in the static buffers of a graph, put there once its runner has filled them and before it is replayed.

Four graphs, by place: an EAGLE draft's steps and its extend on trtllm_mha, a whole prefill, and the decode of an MLA
target. A server imports this beside `graph_faults_plugin.py`. For 0.5.23.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Place(NamedTuple):
    """target: what is hooked. mode: the batches for some of which a fault lasts, see `Drive`."""

    target: str
    mode: str
    faults: tuple[str, ...]


PLACES = {
    "draft-steps": Place(
        "sglang.srt.speculative.eagle_draft_cuda_graph_runner.EAGLEDraftCudaGraphRunner._replay_graph",
        "decode",
        ("draft-steps-slots",),
    ),
    "draft-extend": Place(
        "sglang.srt.layers.attention.trtllm_mha_backend.TRTLLMHAAttnBackend.init_forward_metadata_out_graph",
        "decode",
        ("draft-extend-lengths", "draft-extend-rows", "draft-extend-slots"),
    ),
    "whole-prefill": Place(
        "sglang.srt.model_executor.runner.prefill_cuda_graph_runner.PrefillCudaGraphRunner"
        "._prepare_forward_metadata_for_replay",
        "extend",
        ("whole-prefill-lengths", "whole-prefill-rows", "whole-prefill-slots"),
    ),
    "mla": Place(
        "sglang.srt.model_executor.runner.decode_cuda_graph_runner.DecodeCudaGraphRunner"
        "._init_replay_attn_metadata_from_view",
        "decode",
        ("mla-slots",),
    ),
}


class Buffers:
    """The fault that is on, by name, "" for none. filled: replays of the place's graph that were seen."""

    def __init__(self, place: str) -> None:
        self.place, self.on, self.filled = place, "", 0

    def around(self, original: Any, owner: Any, *args: Any, **kwargs: Any) -> Any:
        """Hook around the place's function."""
        if (found := OF[self.place](owner, *args, **kwargs)) is not None:
            self.filled += 1
            lens, rows, slots = found
            kind = self.on.rpartition("-")[2]
            if kind == "lengths":
                lens.sub_((lens > 1).to(lens.dtype))
            elif kind == "rows":
                # Each reads the next one's row; of one request alone, that of padding.
                rows.copy_(rows.roll(1))
            elif kind == "slots":
                slots.sub_((slots > 1).to(slots.dtype))
        return original(owner, *args, **kwargs)

    def put(self, name: str) -> Callable[[], None]:
        """Until what is returned is called."""
        self.on = name

        def back() -> None:
            self.on = ""

        return back


def _draft_extend(backend: Any, batch: Any, in_capture: bool = False) -> Any:
    """(lengths [requests], rows, slots [tokens]) of this replay; None where it is none of the place's."""
    if in_capture or not batch.forward_mode.is_draft_extend_v2():
        return None
    live = batch.batch_size
    return batch.seq_lens[:live], batch.req_pool_indices[:live], batch.out_cache_loc


def _draft_steps(runner: Any, *args: Any, **kwargs: Any) -> Any:
    """As `_draft_extend`; a request has as many slots as branches times steps."""
    live, buffers = runner.raw_bs, runner.buffers
    slots = buffers.out_cache_loc[: live * runner.topk * runner.speculative_num_steps]
    return buffers.seq_lens[:live], buffers.req_pool_indices[:live], slots


def _whole_prefill(runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    """As `_draft_extend`."""
    if not runner._is_full_backend:
        return None
    buffers, tokens = runner._prefill_static_buffers, len(batch.input_ids)
    # One request more than it has, if there is room: padding's row.
    rows = min(batch.batch_size + 1, runner._capture_req_slots)
    slots = runner.buffer_registry.get_slot("out_cache_loc").buffer[:tokens]
    return buffers["seq_lens"][: batch.batch_size], buffers["req_pool_indices"][:rows], slots


def _mla(runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    """As `_draft_extend`."""
    live, tokens = batch.batch_size, len(batch.out_cache_loc)
    buffers = runner.buffers
    return buffers.seq_lens[:live], buffers.req_pool_indices[:live], buffers.out_cache_loc[:tokens]


OF: dict[str, Callable[..., Any]] = {
    "draft-steps": _draft_steps,
    "draft-extend": _draft_extend,
    "whole-prefill": _whole_prefill,
    "mla": _mla,
}
