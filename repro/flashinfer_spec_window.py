"""On flashinfer EAGLE's verify has no prefix lengths for a sliding window: no start, then the oldest K/V (#22679).

Issue: sglang #22679 (2026-04-13, open). FlashInferAttnBackend gives the updater of its verify no prefix lengths; where
the target has a sliding window they are subtracted: TypeError, at capture or at the first eager verify. #22892
(closed) passes the sequence lengths. Then the sliding layers' lengths are clipped to the window, but
EagleVerifyInput.generate_attn_arg_prefill is told no start and gathers from the request's first token: past the window
its oldest K/V is read in place of its newest, or slot 0 once the scheduler has freed what left the window: wrong
answers, no fault. #39160 (closed) and #39287 (2026-09-13, open) give a start, and a mask to fit.

From 0.5.14 to 0.5.23 a verify takes the sequence lengths, as #22892 would, and EAGLE is still told no start: what
raised is silent and wrong.

DRAFT_EXTEND raises alike, but workers of 0.5.13 set DRAFT_EXTEND_V2, to flashinfer a plain extend. By reading: on
triton a verify has its window indices (#39287 is about how they are masked), and so has an eager DRAFT_EXTEND_V2;
DRAFT_EXTEND, and graphs of both, have none, which matters to drafts with a window. Gemma-4, gpt-oss and Llama-4 are
refused on flashinfer. Gemma 2 and 3 are not: they have no SWA pool, so their slots would be full ones.

Verify a chain of four tokens with recycled SWA slots, by the real backend and its Triton kernel, interpreted;
FlashInfer's wrappers keep what they are planned with, and what they would run is a reference. The stand-in for the cure
moves the K/V's start and nothing else: the mask stays laid out for the whole request and is not judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.scenario import Drive, Found, Where
from g4diag.scenario.driving import driven

_BACKEND = "sglang.srt.layers.attention.flashinfer_backend"
_UPDATER = f"{_BACKEND}.FlashInferIndicesUpdaterPrefill"
_SLIDING, _PLAN = f"{_UPDATER}.update_sliding_window", f"{_UPDATER}.call_begin_forward"
_GATHER = "sglang.srt.speculative.eagle_info.EagleVerifyInput.generate_attn_arg_prefill"
_WIDER = (_GATHER, "paged_kernel_lens = paged_kernel_lens + self.draft_token_num")
_NO_PREFIX = (
    (f"{_BACKEND}.FlashInferAttnBackend.init_forward_metadata", "prefill_wrappers=self.prefill_wrappers_verify"),
    (_SLIDING, "torch.tensor(self.sliding_window_size) + seq_lens - prefix_lens"),
    (f"{_BACKEND}.FlashInferAttnBackend.init_forward_metadata_out_graph", "prefix_lens=None"),
    (_PLAN, "spec_info.generate_attn_arg_prefill("),
    _WIDER,
)
_NO_START = ((_SLIDING, 'num_accept_tokens = getattr(spec_info, "num_accept_tokens", None)'), _WIDER)


def drive(*, committed: int = 30, sliding: bool = True, evicted: bool = False, graph: bool = False) -> Found:
    """committed: tokens before the drafted ones. sliding: the target has a window. evicted: what left it is freed, as
    the scheduler does. graph: at capture, not eagerly. Raises what upstream does. Damaged: indices of a wrapper that
    are not the slots of the newest tokens its layers look at."""
    import torch

    from g4diag.stack.drive import flashinfer_attention
    from g4diag.stack.drive.backends import unpaged_server
    from g4diag.stack.drive.driver import driver

    serving = unpaged_server()
    allocator, mapping = serving.allocator, serving.allocator.full_to_swa_index_mapping
    drafted, window = serving.args.speculative_num_draft_tokens, serving.runner.sliding_window_size
    allocator.free_swa(allocator.alloc(20))  # left the window: the full slots stay
    allocator.free(allocator.alloc(40))
    slots = allocator.alloc(committed + drafted)
    serving.request_pool.req_to_token[1, : len(slots)] = slots.to(torch.int32)
    apart = int((mapping[slots] != slots).sum())
    if evicted:
        allocator.free_swa(slots[: committed - window - 1])
    if not sliding:
        serving.runner.sliding_window_size = None
    batch = _batch(slots, drafted)
    driver().bind_plan(serving.runner, batch)
    backend = flashinfer_attention.backend(serving.runner)
    if graph:
        backend.init_cuda_graph_state(1, drafted)
        backend.init_forward_metadata_out_graph(batch, in_capture=True)
    else:
        backend.init_forward_metadata(batch)
    _read(backend, serving.model, batch, sliding)
    wanted = [mapping[slots[max(committed - window, 0) :]], slots] if sliding else [slots]
    plans = [wrapper.planned for wrapper in backend.forward_metadata.prefill_wrappers]
    tables = [plan["paged_kv_indices"][: plan["paged_kv_indptr"][-1]] for plan in plans]
    wrong = [table[table != want] for table, want in zip(tables, wanted, strict=True)]
    nobodys, masks = sum(int((entries == 0).sum()) for entries in wrong), plans[0]["custom_mask"].numel()
    return Found(
        checked=sum(len(want) for want in wanted),
        damaged=sum(len(entries) for entries in wrong),
        evidence={"slot with another number in SWA space": apart},
        says=f"{len(tables[0])} indices in the first wrapper, {len(wrong[0])} wrong, {nobodys} of those slot 0;"
        f" a mask of {masks} entries, {len(tables[0]) * drafted} read",
    )


def _read(backend: Any, model: Any, batch: Any, sliding: bool) -> None:
    """What the model's layers do next: each calls its wrapper. Those with a window are left out of a target that has
    none; K/V are not looked at, only where they are."""
    import torch
    from sglang.srt.layers.radix_attention import RadixAttention

    for layer in (module for module in model.modules() if isinstance(module, RadixAttention)):
        if sliding or layer.sliding_window_size == -1:
            q = torch.zeros(len(batch.out_cache_loc), layer.tp_q_head_num * layer.head_dim)
            backend.forward_extend(q, None, None, layer, batch)


def _batch(slots: Any, drafted: int) -> Any:
    """A target verify of one request: a chain of the last `drafted` of its slots, int64."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardMode
    from sglang.srt.speculative.eagle_info import EagleVerifyInput

    from g4diag.stack.drive.backends import HandMadeBatch

    committed = len(slots) - drafted
    lens, chain = torch.tensor([committed]), torch.arange(drafted)
    mask = torch.ones(drafted, len(slots), dtype=torch.bool).tril(committed)
    spec_info = EagleVerifyInput(
        draft_token=torch.zeros(drafted, dtype=torch.int64),
        custom_mask=mask.flatten(),
        positions=committed + chain,
        retrieve_index=chain[None],
        retrieve_next_token=torch.cat([chain[1:], torch.tensor([-1])])[None],
        retrieve_next_sibling=torch.full((1, drafted), -1),
        retrieve_cum_len=None,
        spec_steps=drafted - 1,
        topk=1,
        draft_token_num=drafted,
        capture_hidden_mode=CaptureHiddenMode.FULL,
        seq_lens_sum=committed,
        seq_lens_cpu=lens,
    )
    return HandMadeBatch(
        batch_size=1,
        req_pool_indices=torch.tensor([1]),
        seq_lens=lens,
        seq_lens_cpu=lens,
        seq_lens_sum=committed,
        encoder_lens=None,
        forward_mode=ForwardMode.TARGET_VERIFY,
        out_cache_loc=slots[-drafted:],
        positions=spec_info.positions,
        spec_info=spec_info,
    )


def giving_prefixes(
    original: Callable[..., None], updater: Any, rows: Any, seq_lens: Any, *args: Any, **kwargs: Any
) -> None:
    """Around `update_sliding_window`, as #22892 has it: all that a verify has committed is its prefix."""
    original(updater, rows, seq_lens, *args, **{**kwargs, "prefix_lens": seq_lens})


def starting_at_the_window(original: Callable[..., None], updater: Any, *args: Any, **kwargs: Any) -> None:
    """Around `call_begin_forward`: each request's row of req_to_token begins where its window does."""
    reader = updater if hasattr(updater, "req_to_token") else updater.attn_backend.kv_index_translator
    rows, starts, whole = args[2], args[7], reader.req_to_token
    reader.req_to_token = whole.clone()
    for row, start in zip(rows.tolist(), starts.tolist(), strict=True):
        reader.req_to_token[row] = whole[row].roll(-start)
    try:
        original(updater, *args, **kwargs)
    finally:
        reader.req_to_token = whole


def _half_cure() -> tuple[Hook, ...]:
    """Nothing, where the release gives prefixes itself."""
    from g4diag.scenario.applicable import missing

    return () if missing(_NO_PREFIX) else (Hook(_SLIDING, "around", giving_prefixes),)


def _cure() -> tuple[Hook, ...]:
    return (*_half_cure(), Hook(_PLAN, "around", starting_at_the_window))


_WRONG = "page_table_in_layer_space"
_ALONE = (Where(_NO_PREFIX, "raises TypeError"), Where(_NO_START, _WRONG))
_HALF_CURED = (Where(_NO_PREFIX, _WRONG), Where(_NO_START, _WRONG))


SCENARIO = driven(
    drive,
    name="flashinfer-spec-window",
    symptom="TypeError: Tensor - NoneType in update_sliding_window (EAGLE, flashinfer, sliding window);"
    " with prefix lengths given, wrong answers past the window",
    upstream="sglang #22679 (2026-04-13, open), #22892, #39160 (closed), #39287 (2026-09-13, open); alive in 0.5.13"
    " to 0.5.23",
    drives=(
        Drive("upstream", "as released", where=_ALONE),
        Drive("graph", "the same, at capture", arguments={"graph": True}, where=_ALONE),
        Drive("half-cure", "prefix lengths given (#22892)", hooks=_half_cure, where=_HALF_CURED),
        Drive(
            "evicted",
            "prefix lengths given, what left the window is freed",
            hooks=_half_cure,
            arguments={"evicted": True},
            where=_HALF_CURED,
        ),
        Drive("cure", "prefix lengths and a start", hooks=_cure, arguments={"evicted": True}),
        Drive("short", "prefix lengths, inside the window", hooks=_half_cure, twin=True, arguments={"committed": 5}),
        Drive("full", "as released, no window", twin=True, arguments={"sliding": False}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
