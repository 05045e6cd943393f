"""One forward on the CPU: its ForwardBatch, its plan (a backend's metadata) and itself.

B: rows of the batch, padding included. T: tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from g4diag.model import IntArray
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.swa_pool import int64

_TABLES = ("page_table", "swa_page_table", "cache_seqlens_int32")
_FLAT = ("kv_indptr", "kv_indices", "window_kv_indptr", "window_kv_indices")


@dataclass(frozen=True)
class Extend:
    """The part of a batch that only an extend has. prefix_lens: tokens a row had before; lens: tokens a row gets, one
    entry a row. tokens: how many there are, padding rows left out."""

    prefix_lens: list[int]
    lens: list[int]
    tokens: int


def forward_batch(
    mode: str,
    rows: Sequence[int],
    lens: Sequence[int],
    input_ids_T: IntArray,
    positions_T: IntArray,
    slots_T: IntArray | None,
    extend: Extend | None,
) -> Any:
    """mode: a ForwardMode's name. rows: request rows. lens: tokens a row, as ForwardBatch counts them in this mode.
    slots_T: full slots that the tokens are written to; None for a forward that writes none. Arrays: int64."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch, ForwardMode

    seq_lens_B = int64(list(lens))
    return ForwardBatch(
        forward_mode=ForwardMode[mode],
        batch_size=len(rows),
        input_ids=torch.from_numpy(input_ids_T),
        req_pool_indices=int64(list(rows)),
        seq_lens=seq_lens_B,
        seq_lens_cpu=seq_lens_B.clone(),
        seq_lens_sum=int(seq_lens_B.sum()),
        out_cache_loc=None if slots_T is None else torch.from_numpy(slots_T),
        positions=torch.from_numpy(positions_T),
        capture_hidden_mode=CaptureHiddenMode.LAST,
        extend_seq_lens=None if extend is None else int64(extend.lens),
        extend_seq_lens_cpu=None if extend is None else extend.lens,
        extend_prefix_lens=None if extend is None else int64(extend.prefix_lens),
        extend_prefix_lens_cpu=None if extend is None else extend.prefix_lens,
        extend_num_tokens=None if extend is None else extend.tokens,
    )


def mode_of(phase: str) -> str:
    """The ForwardMode's name of a phase: EXTEND, DECODE, TARGET_VERIFY, DRAFT_EXTEND and DRAFT_DECODE of an EAGLE
    draft, or FROZEN_DECODE."""
    ours = {"DRAFT_DECODE": "DECODE", "FROZEN_DECODE": "DECODE", "DRAFT_EXTEND": driver().FIXTURES.DRAFT_EXTEND}
    return str(ours.get(phase, phase))


def extends_all_drafts() -> bool:
    """Whether an EAGLE draft extends over all draft tokens of each request, accepted or not, so that every row has as
    many; else over those that were accepted."""
    return bool(driver().FIXTURES.EXTENDS_ALL_DRAFTS)


def multi_step_backend(runner: Any, drafts: int, rows: int) -> Any:
    """An EAGLE draft's backends, one a step, ready for graphs of up to `rows` rows. drafts: tokens a verify looks
    at."""
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnMultiStepDraftBackend

    made = TRTLLMHAAttnMultiStepDraftBackend(runner, 1, drafts)
    made.init_cuda_graph_state(rows, rows)
    return made


def forward_through(runner: Any, backend: Any) -> Callable[[Any], Any]:
    """The runner's forward of a batch that is planned already, its layers going through this backend."""
    from sglang.srt.model_executor.forward_context import ForwardContext, forward_context

    def forward(batch: Any) -> Any:
        batch.mark_forward_metadata_ready()
        with forward_context(ForwardContext(attn_backend=backend)):
            return runner.forward(batch)

    return forward


def recorded_forward(runner: Any, backend: Any) -> Callable[[Any], Any]:
    """What a captured graph runs of the runner's forward: no plan is made in it."""
    return partial(driver().FIXTURES.recorded_forward, runner, backend)


def bind_plan(runner: Any, batch: Any) -> None:
    """What the runner gives a batch that was made by hand, before a backend plans it."""
    driver().bind_plan(runner, batch)


def plan_capture(backend: Any, batch: Any) -> None:
    """Make the metadata that a graph of this batch is captured over."""
    driver().plan_graph(backend, batch, in_capture=True)


def plan_replay(backend: Any, batch: Any) -> None:
    """Bring a captured graph's metadata up to this batch."""
    driver().plan_graph(backend, batch, in_capture=False)


def layer_table(backend: Any, layer: Any, batch: Any) -> Any:
    """int32 [B, pages]: the page table that the backend would hand this layer."""
    return backend._get_layer_page_table(layer, batch)


def planned(backend: Any, mode: Any) -> tuple[Any, ...]:
    """The tensors that a forward in this ForwardMode reads through this backend; see `tensors_of`."""
    return tensors_of(chosen(backend, mode).forward_metadata)


def chosen(backend: Any, mode: Any) -> Any:
    """The child by which a wrapper runs forwards of this ForwardMode; a backend itself."""
    return backend._select_backend(mode) if hasattr(backend, "_select_backend") else backend


def tensors_of(metadata: Any) -> tuple[Any, ...]:
    """(address, shape) of each tensor that a kernel is handed of a backend's metadata; None for one it has not."""
    read = (getattr(metadata, name, None) for name in (*_TABLES, *_FLAT))
    return tuple(None if tensor is None else (tensor.data_ptr(), tuple(tensor.shape)) for tensor in read)
