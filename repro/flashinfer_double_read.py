"""On flashinfer a prefill behind a cached prefix reads its new keys twice, the first time before they are written.

No report: three searches of upstream's threads found none; #26513 is the pull request of this prefill path. Where the
model has a window, FlashInferAttnBackend plans two paged wrappers: one for sliding layers, one for full ones. A prefill
that has a prefix is split: a ragged wrapper is handed the new keys and values, a paged one reads the prefix, and the
two outputs are merged. From 0.5.13 to 0.5.20 `update_sliding_window` trims the sliding layers' wrapper to the prefix
and plans that of the full layers over the whole sequence. So the full layers count the new keys twice; what the paged
wrapper finds in their slots is what the slots' last owner left there, since K/V are written after it has run, and it is
not causal. Nothing faults and nothing is logged: the answer is wrong. 0.5.21 and later plan the prefix alone.

Who it concerns: models with a sliding window that these releases let run on flashinfer (Gemma 2 and 3; Gemma-4, gpt-oss
and Llama-4 are refused), text alone, at a radix cache hit or in the second and later chunks of a prefill. Multimodal
models, deterministic inference and a prefill without a prefix do not split, or have nothing to read.

Drive one prefill of six tokens behind 24 by the real backend; FlashInfer's wrappers keep what they are planned with,
and what they would run is a reference. The output of a full layer is held against attention over the same keys, each
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from g4diag.hooks.install import Hook
from g4diag.scenario import Drive, Found, Where
from g4diag.scenario.driving import driven

_UPDATER = "sglang.srt.layers.attention.flashinfer_backend.FlashInferIndicesUpdaterPrefill"
_PLAN = f"{_UPDATER}.call_begin_forward"
_TRIMMED = f"{_UPDATER}.update_sliding_window"
_WHOLE = (
    (_TRIMMED, "effective_start = torch.clamp("),
    (_TRIMMED, "kv_start_idx = seq_lens - paged_kernel_lens\n            else:\n"),  # later: elif use_ragged
)


def drive(*, prefix: int = 24, sliding: bool = True) -> Found:
    """prefix: cached tokens. sliding: the model has a window. Damaged: entries that a full layer's paged wrapper reads
    and its ragged one reads too."""
    import torch
    from sglang.srt.layers.radix_attention import RadixAttention

    from g4diag.stack.drive import flashinfer_attention
    from g4diag.stack.drive.backends import unpaged_server
    from g4diag.stack.drive.driver import driver

    torch.manual_seed(0)
    serving = unpaged_server()
    serving.allocator.free(serving.allocator.alloc(40))
    slots = serving.allocator.alloc(prefix + _NEW)
    serving.request_pool.req_to_token[1, : len(slots)] = slots.to(torch.int32)
    if not sliding:
        serving.runner.sliding_window_size = None
    batch = _batch(slots, prefix)
    driver().bind_plan(serving.runner, batch)
    backend = flashinfer_attention.backend(serving.runner)
    layers = [module for module in serving.model.modules() if isinstance(module, RadixAttention)]
    layer = next(each for each in layers if each.sliding_window_size == -1)
    k, v = backend.token_to_kv_pool.get_kv_buffer(layer.layer_id)
    k.normal_(), v.normal_()  # the prefix, and in the new tokens' slots what an earlier owner left
    backend.init_forward_metadata(batch)
    q, new_k, new_v = (
        torch.randn(_NEW, heads, layer.head_dim) for heads in (layer.tp_q_head_num, *(layer.tp_k_head_num,) * 2)
    )
    keys, values = (torch.cat([own[slots[:prefix]], new]) for own, new in ((k, new_k), (v, new_v)))
    found = backend.forward_extend(q.flatten(1), new_k, new_v, layer, batch)
    wanted = flashinfer_attention.causal(q, keys, values, layer.scaling).flatten(1)
    planned = backend.forward_metadata.prefill_wrappers[-1].planned["paged_kv_indptr"]
    off = float((found - wanted).norm() / wanted.norm())
    return Found(
        checked=len(slots),
        damaged=int(planned[-1]) - prefix,
        evidence={"new token": _NEW},
        says=f"{int(planned[-1])} keys in the paged wrapper behind a prefix of {prefix}, {_NEW} in the ragged one;"
        f" the layer's output is off by {off:.0%}",
    )


_NEW = 6


def _batch(slots: Any, prefix: int) -> Any:
    """A prefill of one request: the last of its slots, int64, behind so many cached ones."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import ForwardMode

    from g4diag.stack.drive.backends import HandMadeBatch

    lens, new = torch.tensor([len(slots)]), len(slots) - prefix
    return HandMadeBatch(
        batch_size=1,
        req_pool_indices=torch.tensor([1]),
        seq_lens=lens,
        seq_lens_cpu=lens,
        seq_lens_sum=len(slots),
        extend_prefix_lens=torch.tensor([prefix]),
        extend_prefix_lens_cpu=[prefix],
        extend_seq_lens=torch.tensor([new]),
        extend_seq_lens_cpu=[new],
        encoder_lens=None,
        cross_attention_custom_mask=None,
        forward_mode=ForwardMode.EXTEND,
        spec_info=None,
        input_ids=torch.zeros(new, dtype=torch.int64),
        positions=torch.arange(prefix, len(slots)),
        out_cache_loc=slots[prefix:],
    )


def prefix_alone(original: Callable[..., None], updater: Any, *args: Any, **kwargs: Any) -> None:
    """Around `call_begin_forward`: where a prefill is split, the wrapper that would read the whole sequence is planned
    over the prefix, as 0.5.21 does."""
    paged_lens, seq_lens, prefix_lens, use_ragged = args[3], args[5], args[6], args[10]
    if use_ragged and prefix_lens is not None and bool((paged_lens == seq_lens).all()):
        args = (*args[:3], prefix_lens, int(prefix_lens.sum()), *args[5:])
    original(updater, *args, **kwargs)


def _cure() -> tuple[Hook, ...]:
    """Nothing, where the release plans the prefix alone."""
    from g4diag.scenario.applicable import missing

    return () if missing(_WHOLE) else (Hook(_PLAN, "around", prefix_alone),)


SCENARIO = driven(
    drive,
    name="flashinfer-double-read",
    symptom="wrong answers on flashinfer for a model with a window, behind a cached prefix or in chunks; no error",
    upstream="not reported; the path is of #26513; alive in 0.5.13 to 0.5.20, cured in 0.5.21",
    drives=(
        Drive("upstream", "as released", where=(Where(_WHOLE, "table_is_of_this_step"),)),
        Drive("cure", "the full layers' wrapper is planned over the prefix", hooks=_cure),
        Drive("full", "as released, no window", twin=True, arguments={"sliding": False}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
