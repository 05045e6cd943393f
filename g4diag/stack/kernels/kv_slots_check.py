"""Check on the device where a layer's new K/V is written, before it is; no host sync, so it can live in a CUDA graph.

Each slot is held against the size of the layer's own pool and against the batch's own slot, in the layer's space: a
sliding layer's is what the mapping has for it, and what was handed out with it.

Legend: N tokens, M full slots.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from g4diag.stack.kernels.claims import SLOTS, SLOTS_REMAPPED, WORDS
from g4diag.stack.kernels.verdict import VerdictBox, count, count_wrong

_SLOTS, _SLOTS_REMAPPED = tl.constexpr(SLOTS * len(WORDS)), tl.constexpr(SLOTS_REMAPPED * len(WORDS))


@triton.jit(do_not_specialize=["site", "bound", "tokens", "mapped_slots"])
def _check(
    slots_N,
    own_N,
    told_N,
    mapping,
    handed_out,
    verdict_V,
    step_1,
    site,
    bound,
    tokens,
    mapped_slots,
    slots_stride,
    own_stride,
    told_stride,
    OWN: tl.constexpr,
    TOLD: tl.constexpr,
    MAPPED: tl.constexpr,
    REMEMBERED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    nobody = tl.full((), -1, tl.int64)
    inside = token < tokens
    slot = tl.load(slots_N + token * slots_stride, mask=inside, other=0).to(tl.int64)
    outside = inside & ((slot < 0) | (slot >= bound))
    expected = slot
    if OWN:
        own = tl.load(own_N + token * own_stride, mask=inside, other=0).to(tl.int64)
        if TOLD:
            told = tl.load(told_N + token * told_stride, mask=inside, other=-1)
            own = tl.where(told >= 0, told, own)
        expected = own
        if MAPPED:
            known = inside & (own >= 0) & (own < mapped_slots)
            expected = tl.load(mapping + own, mask=known, other=-1)
            # The request may have left since its slots were translated, and given them back: they are nobody's.
            given_back = known & (own > 0) & (expected == 0)
            if REMEMBERED:
                handed = tl.load(handed_out + own, mask=known, other=-1)
                strange = known & (handed != -2) & (expected > 0) & (expected != handed)
                at = verdict_V + _SLOTS_REMAPPED
                count_wrong(at, strange, token, expected, handed, site, nobody, bound, step_1, nobody, nobody)
            expected = tl.where(given_back, slot, expected)
    wrong = inside & (slot != expected)
    if tl.sum((outside | wrong).to(tl.int32), axis=0) > 0:
        at = verdict_V + _SLOTS
        count(at, outside, wrong, token, slot, expected, site, nobody, bound, step_1, nobody, nobody)


def check_kv_slots(
    slots_N: torch.Tensor,
    verdict: VerdictBox,
    step_1: torch.Tensor,
    *,
    site: int,
    bound: int,
    own_N: torch.Tensor | None = None,
    told_N: torch.Tensor | None = None,
    mapping: torch.Tensor | None = None,
    handed_out: torch.Tensor | None = None,
) -> None:
    """Launch the check of one write.

    slots_N: int [N], as handed to the write; of any stride, as the next two. site: names layer and backend to the
    reader. bound: slots of the layer's pool. own_N: int [N], the batch's full slots; without them only the bound is
    checked. told_N: int64, at least N, the same by the batch before a graph's buffers were filled, -1 where it does not
    tell. mapping: full_to_swa_index_mapping, int64 [M], for a sliding layer. handed_out: int64 [M], the SWA slot handed
    out with each full slot, 0 for none, -2 where nobody wrote it down. step_1: int64, one element, on the device.
    """
    none, tokens = verdict.words_V, slots_N.shape[0]  # a pointer that is never followed
    if not tokens:
        return
    block = 256
    _check[(triton.cdiv(tokens, block),)](
        slots_N,
        none if own_N is None else own_N,
        none if told_N is None else told_N,
        none if mapping is None else mapping,
        none if handed_out is None else handed_out,
        verdict.words_V,
        step_1,
        site,
        bound,
        tokens,
        0 if mapping is None else len(mapping) - 1,
        *(1 if each is None or tokens == 1 else each.stride(0) for each in (slots_N, own_N, told_N)),
        OWN=own_N is not None,
        TOLD=told_N is not None,
        MAPPED=mapping is not None,
        REMEMBERED=handed_out is not None,
        BLOCK=block,
        num_warps=1,
    )
