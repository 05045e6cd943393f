"""The fused FP8 write of K/V takes full-space slots on sliding layers: K/V is read where it never went (#19107).

PR: sglang #19107 (opened 2026-02-21, merged), gpt-oss on trtllm_mha with an FP8 KV cache: no answer was usable. The
pool's own write translated slots by layer; the fused kernel goes round the pool, and was handed the batch's full slots
on every layer. While the mapping is the identity nobody notices. Then a sliding layer's K/V goes to slots of another
request, or past the pool, and what is read in its place is whatever was written there. The tables are right: a trap
that looks at the slots of a write names it.

Two requests whose SWA pages are recycled write K/V through the real backend and kernel, one after the other; then
every row is looked for where the page table says it is: with the fault put back and as released; with the fault in
bf16, whose write goes through the pool; and the write that must not be translated, of a draft with an FP8 pool of
its own.
"""

from __future__ import annotations

import sys
from typing import Any

from g4diag.scenario import Drive, Found
from g4diag.scenario.driving import driven

_FAULT = ("fused-write-full-index",)
_TOKENS = 4


def drive(*, fp8: bool = True, own_pool: bool = False) -> Found:
    """own_pool: the backend is that of a draft that is full throughout. Damaged: rows of K of a layer that are not
    where that layer reads them."""
    import torch
    from sglang.srt.layers.attention.trtllm_mha_backend import TRTLLMHAAttnBackend

    from g4diag.stack.drive.allocators import small_server
    from g4diag.stack.drive.backends import extend_batch, runner_with_pool
    from g4diag.stack.drive.driver import driver

    serving = small_server()
    mapping = serving.allocator.full_to_swa_index_mapping
    requests = _recycled(serving.allocator)
    runner = runner_with_pool(serving, torch.float8_e4m3fn if fp8 else torch.bfloat16, own_pool=own_pool)
    pool, backend = runner.token_to_kv_pool, TRTLLMHAAttnBackend(runner)
    layers = [layer.self_attn.attn for layer in serving.model.model.layers[1:]]
    written: dict[tuple[int, int], Any] = {}
    for row, slots in enumerate(requests):
        batch = extend_batch(serving, runner, row, slots)
        backend.init_forward_metadata(batch)
        for layer in layers:
            keys = written[row, layer.layer_id] = _tagged(len(slots), layer.tp_k_head_num, layer.head_dim, seed=row)
            query = torch.zeros(len(slots), layer.tp_q_head_num * layer.head_dim, dtype=torch.bfloat16)
            with driver().fused_write():
                backend.forward_extend(query, keys, keys, layer, batch)
    checked = damaged = 0
    for (row, layer_id), keys in written.items():
        sliding = not own_pool and serving.config.layer_types[layer_id] == "sliding_attention"
        at = mapping[requests[row]] if sliding else requests[row]
        checked += len(keys)
        damaged += int((pool.get_key_buffer(layer_id)[at].float() != keys.float()).any(dim=-1).any(dim=-1).sum())
    apart = sum(int((mapping[slots] != slots).sum()) for slots in requests)
    return Found(
        checked=checked,
        damaged=damaged,
        evidence={"slot with another number in SWA space": apart},
        says=f"{damaged} of {checked} rows of K are not where they are read",
    )


def _recycled(allocator: Any) -> list[Any]:
    """Slots of two requests: the second's SWA page has the number of the first's full page."""
    from g4diag.stack.drive.allocators import PAGE, extend

    gone = extend(allocator, PAGE)
    allocator.free_swa(gone)  # left the window: the full page stays
    passing = extend(allocator, 4 * PAGE)
    allocator.free(passing)
    return [extend(allocator, PAGE)[:_TOKENS] for _ in range(4)][-2:]


def _tagged(tokens: int, heads: int, dim: int, *, seed: int) -> Any:
    """bf16[tokens, heads, dim]: small whole numbers, which FP8 holds exactly."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, (tokens, heads, dim), generator=generator).to(torch.bfloat16)


SCENARIO = driven(
    drive,
    name="fp8-write-full-index",
    symptom="broken answers with --kv-cache-dtype fp8_e4m3 on a hybrid SWA model with trtllm_mha; no crash",
    upstream="sglang #19107 (opened 2026-02-21, merged); brought in by #18970",
    drives=(
        Drive("upstream", "as released"),
        Drive("faulty", "full slots on every layer", _FAULT, "kv_slots_in_layer_space"),
        Drive("hidden", "the same, K/V in bf16", _FAULT, arguments={"fp8": False}),
        Drive("own-pool", "as released, a draft's own FP8 pool", twin=True, arguments={"own_pool": True}),
    ),
)

if __name__ == "__main__":
    from g4diag.cli.main import run as run_command

    sys.exit(run_command(["repro", SCENARIO.name, *sys.argv[1:]]))
