"""sglang's MLA backends on a CPU: the real class with its real pool, planned by its own code, and one reference in the
place of each compiled kernel (`mla_kernels`).

There is no model: rows of req_to_token are laid out by hand and the pool holds random numbers, so that what a layer
reads is known. B: rows. P: pages a row. N: slots. H: heads. D: rank and rope dimension together.
"""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.mla_kernels import CLASSES, RANK, Kernels

ROPE, HEADS = 4, 2
PAGES, CONTEXT, DRAFTS = 12, 512, 4
_LAYER = 0


class MlaServer:
    """One backend over three requests of so many keys, while `mla_kernels.standing_in` lasts. page: tokens."""

    def __init__(self, attention: str, kernels: Kernels, lengths: tuple[int, ...] = (100, 7, 64)) -> None:
        import torch
        from sglang.srt.layers.radix_attention import RadixAttention

        from g4diag.stack.drive import cpu

        self.attention, self.lengths = attention, lengths
        self.page = 128 if attention == "cutlass_mla" else 64
        args = cpu.server_args(
            page_size=self.page,
            attention_backend="torch_native",
            speculative_algorithm="EAGLE",
            speculative_num_steps=DRAFTS - 1,
            speculative_eagle_topk=1,
            speculative_num_draft_tokens=DRAFTS,
            **driver().FIXTURES.speculation(DRAFTS),
            cuda_graph_bs=[1, len(self.lengths)],
            disable_overlap_schedule=True,
        )
        cpu.start_process(args)
        torch.manual_seed(0)
        self.runner = _runner(args, len(self.lengths), self.page)
        self._lay_out()
        self.backend = self.runner.attn_backend = _backend(attention, self.runner, kernels)
        driver().finish_runner(self.runner)
        self.layer = RadixAttention(HEADS, RANK + ROPE, 0.5, 1, layer_id=_LAYER, v_head_dim=RANK)

    def by_page(self, verify: bool) -> bool:
        """Whether its kernel is handed pages; else flat slots."""
        if self.attention in ("flashinfer_mla", "triton"):
            return False
        return not (verify and self.attention == "cutlass_mla")

    def keys(self, verify: bool) -> list[int]:
        """That its kernel is handed of each row: triton's new ones come beside them."""
        return [length + DRAFTS * (verify and self.attention != "triton") for length in self.lengths]

    def _lay_out(self) -> None:
        """Pages that no two rows share, in no order; a row keeps what drafts will need."""
        import torch

        pages = torch.randperm(PAGES)[:PAGES] + 1
        rows, at = self.runner.req_to_token_pool.req_to_token, 0
        for row, length in enumerate(self.lengths, 1):
            count = -(-(length + DRAFTS) // self.page)
            slots = (pages[at : at + count, None] * self.page + torch.arange(self.page)).flatten()
            rows[row, : len(slots)], at = slots.to(torch.int32), at + count

    def batch(self, verify: bool = False) -> Any:
        """A decode of every request, or a verify of its draft tokens, not planned yet."""
        import torch
        from sglang.srt.model_executor.forward_batch_info import ForwardMode

        from g4diag.stack.drive.backends import HandMadeBatch
        from g4diag.stack.drive.spec_inputs import chain_verify

        lens, rows = torch.tensor(self.lengths), torch.arange(1, len(self.lengths) + 1)
        asked, slots_RT = DRAFTS if verify else 1, self.runner.req_to_token_pool.req_to_token
        batch = HandMadeBatch(
            batch_size=len(rows),
            req_pool_indices=rows,
            seq_lens=lens,
            seq_lens_cpu=lens,
            seq_lens_sum=int(lens.sum()),
            encoder_lens=None,
            attn_attend_prefix_cache=None,
            mha_one_shot=False,
            extend_seq_lens_cpu=None,
            attn_dcp_metadata=None,
            forward_mode=ForwardMode.TARGET_VERIFY if verify else ForwardMode.DECODE,
            spec_info=chain_verify(list(self.lengths), DRAFTS) if verify else None,
            input_ids=torch.zeros(len(rows) * asked, dtype=torch.int64),
            positions=torch.zeros(len(rows) * asked, dtype=torch.int64),
            out_cache_loc=torch.cat([slots_RT[row, n : n + asked] for row, n in enumerate(self.lengths, 1)]).long(),
        )
        if verify and self.attention != "triton":  # a mask is laid out by some, and read by none of the kernels
            batch.spec_info.custom_mask = torch.ones(sum(length + DRAFTS for length in self.lengths) * DRAFTS).bool()
        driver().bind_plan(self.runner, batch)
        return batch

    def forward(self, batch: Any) -> Any:
        """One layer of that batch, planned already, of the same queries each time. Returns [tokens, heads * rank]."""
        import torch

        random = torch.Generator().manual_seed(0)
        q = torch.randn(len(batch.positions), HEADS * (RANK + ROPE), generator=random)
        k = torch.zeros(len(q), 1, RANK + ROPE) if self.attention == "triton" else None
        run = self.backend.forward_decode if batch.forward_mode.is_decode() else self.backend.forward_extend
        return run(q, k, None if k is None else k[..., :RANK], self.layer, batch, save_kv_cache=False)

    def write(self, batch: Any, *, joined: bool) -> Any:
        """The same, and K/V of as many ones to the batch's slots. joined: in one tensor, as some backends write it."""
        import torch

        tokens = len(batch.positions)
        q, q_rope = torch.ones(tokens, HEADS * RANK), torch.ones(tokens, HEADS * ROPE)
        k, k_rope = torch.ones(tokens, 1, RANK), torch.ones(tokens, 1, ROPE)
        run = self.backend.forward_decode if batch.forward_mode.is_decode() else self.backend.forward_extend
        if joined:
            q, k = torch.ones(tokens, HEADS * (RANK + ROPE)), torch.ones(tokens, 1, RANK + ROPE)
            return run(q, k, k[..., :RANK], self.layer, batch)
        return run(q, k, k, self.layer, batch, q_rope=q_rope, k_rope=k_rope)

    def eager(self, verify: bool = False) -> Any:
        """The plan of a forward outside of graphs. Returns its batch."""
        batch = self.batch(verify)
        self.backend.init_forward_metadata(batch)
        return batch

    def graph(self, verify: bool = False) -> Any:
        """The plan of a graph, captured at other lengths and brought up to the batch. Returns its batch."""
        self.backend.init_cuda_graph_state(len(self.lengths), len(self.lengths) * DRAFTS)
        lengths, self.lengths = self.lengths, tuple(1 for _ in self.lengths)
        captured = self.batch(verify)
        self.lengths = lengths
        driver().plan_graph(self.backend, captured, in_capture=True)
        batch = self.batch(verify)
        driver().plan_graph(self.backend, batch, in_capture=False)
        return batch

    def ids(self, verify: bool) -> Any:
        """What the layer will be handed by the latest plan: pages [B, P], or flat slots."""
        metadata = self.backend.forward_metadata
        if self.by_page(verify):
            planned = getattr(self.backend, "forward_decode_metadata", None) or metadata
            return planned.block_kv_indices
        if self.attention == "triton":
            return metadata.kv_indices
        return (getattr(metadata, "decode_wrapper", None) or metadata.prefill_wrapper)._kv_indices_buf


def _backend(attention: str, runner: Any, kernels: Kernels) -> Any:
    import torch

    from g4diag.stack.drive import triton_attention
    from g4diag.stack.drive.reference_kernel import bound

    if attention == "triton":
        made = triton_attention.backend(runner, is_mla=True)
        made.decode_attention_fwd = bound(made.decode_attention_fwd, kernels.decode)
        made.extend_attention_fwd = bound(made.extend_attention_fwd, kernels.extend)
        return made
    kept = runner.kv_cache_dtype
    if attention == "tokenspeed_mla":  # which takes no other; FP8 is made of queries and keys by kernels alone
        runner.kv_cache_dtype = torch.float8_e4m3fn
    module, name = CLASSES[attention]
    made = getattr(import_module(module), name)(runner)
    made.data_type = runner.kv_cache_dtype = kept
    return made


def _runner(args: Any, rows: int, page: int) -> Any:
    import torch
    from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator
    from sglang.srt.mem_cache.memory_pool import MLATokenToKVPool, ReqToTokenPool

    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.backend_fixture import TwoLayers

    pool = MLATokenToKVPool(
        size=PAGES * page,
        page_size=page,
        dtype=torch.float32,
        kv_lora_rank=RANK,
        qk_rope_head_dim=ROPE,
        layer_num=1,
        device="cpu",
        enable_memory_saver=False,
    )
    pool.kv_buffer[_LAYER].normal_()
    config = SimpleNamespace(
        hidden_size=1, num_attention_heads=HEADS, num_key_value_heads=1, head_dim=RANK + ROPE, vocab_size=4
    )
    runner = cpu.model_runner(
        TwoLayers(-1, own_kv=True),
        config,
        args,
        request_pool=ReqToTokenPool(rows + 1, CONTEXT + driver().row_headroom(args), "cpu", False),
        allocator=PagedTokenToKVPoolAllocator(PAGES * page, page, torch.float32, "cpu", pool, False),
        kv_pool=pool,
        context_len=CONTEXT,
        is_draft=False,
        algorithm="EAGLE",
    )
    vars(runner.model_config).update(
        kv_lora_rank=RANK,
        qk_nope_head_dim=RANK,
        qk_rope_head_dim=ROPE,
        v_head_dim=RANK,
        scaling=0.5,
        get_num_kv_heads=lambda *sizes: 1,
    )
    runner.max_running_requests = rows
    return runner
