"""sglang's MLA backends on a CPU: the real class with its real pool, planned by its own code, and one reference in the
place of each compiled kernel.

There is no model: rows of req_to_token are laid out by hand and the pool holds random numbers, so that what a layer
reads is known. B: rows. P: pages a row. N: slots. H: heads. D: rank and rope dimension together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.reference_kernel import bound

_BACKENDS = "sglang.srt.layers.attention"
CLASSES = {
    "flashinfer_mla": (f"{_BACKENDS}.flashinfer_mla_backend", "FlashInferMLAAttnBackend"),
    "trtllm_mla": (f"{_BACKENDS}.trtllm_mla_backend", "TRTLLMMLABackend"),
}
RANK, ROPE, HEADS = 8, 4, 2
PAGE, PAGES, CONTEXT, DRAFTS = 64, 12, 512, 4
_LAYER = 0


@dataclass
class Kernels:
    """entries: that a reference was handed. outside: of them, past the pool."""

    entries: int = 0
    outside: int = 0

    def attend(self, q_QHD: Any, kv_ND: Any, slots_N: Any, scale: float) -> Any:
        """Each query over all keys. kv_ND: the pool by slot. Returns [Q, H, rank]."""
        import torch

        inside_N = (slots_N >= 0) & (slots_N < len(kv_ND))
        self.entries += len(slots_N)
        self.outside += int((~inside_N).sum())
        keys_ND = kv_ND[slots_N.clamp(0, len(kv_ND) - 1).long()].float()
        weights = torch.softmax(torch.einsum("qhd,nd->qhn", q_QHD.float(), keys_ND) * scale, dim=-1)
        return torch.einsum("qhn,nr->qhr", weights, keys_ND[:, :RANK]).to(q_QHD.dtype)

    def paged(self, query: Any, kv_cache: Any, block_tables: Any, seq_lens: Any, bmm1_scale: Any, **rest: Any) -> Any:
        """In the place of trtllm's kernel. query: [B, Q, H, D]. kv_cache: [pages, 1, page size, D]."""
        import torch

        size = kv_cache.shape[-2]
        kv_ND = kv_cache.reshape(-1, kv_cache.shape[-1])
        rows = []
        for q_QHD, table_P, length in zip(query, block_tables, seq_lens.tolist(), strict=True):
            slots_N = (table_P[:, None].long() * size + torch.arange(size)).flatten()[:length]
            rows.append(self.attend(q_QHD, kv_ND, slots_N, float(bmm1_scale)))
        return torch.stack(rows)

    def run(self, wrapper: Any, q_nope: Any, q_pe: Any, ckv_cache: Any, kpe_cache: Any, out: Any, **rest: Any) -> Any:
        """In the place of FlashInfer's, of a wrapper. q: [Q, H, ...]. caches: [slots, 1, ...]."""
        import torch

        q_QHD, kv_ND = torch.cat([q_nope, q_pe], -1), torch.cat([ckv_cache, kpe_cache], -1)[:, 0]
        queries, keys = (pairwise(each.tolist()) for each in wrapper.indptrs)
        rows = [
            self.attend(q_QHD[q:q_end], kv_ND, wrapper._kv_indices_buf[k:k_end], wrapper._sm_scale)
            for (q, q_end), (k, k_end) in zip(queries, keys, strict=True)
        ]
        out.copy_(torch.cat(rows))
        return out


class MlaServer:
    """One backend over three requests of so many keys. `with` it: kernels stand in meanwhile."""

    def __init__(self, attention: str, lengths: tuple[int, ...] = (100, 7, 64)) -> None:
        self.attention, self.lengths, self.kernels = attention, lengths, Kernels()
        self._undo = ExitStack()

    def __enter__(self) -> MlaServer:
        import torch
        from sglang.srt.layers.radix_attention import RadixAttention

        from g4diag.stack.drive import cpu

        args = cpu.server_args(
            page_size=PAGE,
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
        self.runner = _runner(args, len(self.lengths))
        self._lay_out()
        self._undo.enter_context(_stand_ins(self.attention, self.kernels))
        module, name = CLASSES[self.attention]
        self.backend = self.runner.attn_backend = getattr(import_module(module), name)(self.runner)
        driver().finish_runner(self.runner)
        self.layer = RadixAttention(HEADS, RANK + ROPE, 0.5, 1, layer_id=_LAYER, v_head_dim=RANK)
        return self

    def __exit__(self, *raised: object) -> None:
        self._undo.close()

    def _lay_out(self) -> None:
        """Pages that no two rows share, in no order; a row keeps what drafts will need."""
        import torch

        pages = torch.randperm(PAGES)[:PAGES] + 1
        rows, at = self.runner.req_to_token_pool.req_to_token, 0
        for row, length in enumerate(self.lengths, 1):
            count = -(-(length + DRAFTS) // PAGE)
            slots = (pages[at : at + count, None] * PAGE + torch.arange(PAGE)).flatten()
            rows[row, : len(slots)], at = slots.to(torch.int32), at + count

    def batch(self, verify: bool = False) -> Any:
        """A decode of every request, or a verify of its draft tokens, not planned yet."""
        import torch
        from sglang.srt.model_executor.forward_batch_info import ForwardMode

        from g4diag.stack.drive.backends import HandMadeBatch
        from g4diag.stack.drive.spec_inputs import chain_verify

        lens, rows = torch.tensor(self.lengths), torch.arange(1, len(self.lengths) + 1)
        asked = DRAFTS if verify else 1
        batch = HandMadeBatch(
            batch_size=len(rows),
            req_pool_indices=rows,
            seq_lens=lens,
            seq_lens_cpu=lens,
            seq_lens_sum=int(lens.sum()),
            encoder_lens=None,
            attn_attend_prefix_cache=None,
            attn_dcp_metadata=None,
            forward_mode=ForwardMode.TARGET_VERIFY if verify else ForwardMode.DECODE,
            spec_info=chain_verify(list(self.lengths), DRAFTS) if verify else None,
            input_ids=torch.zeros(len(rows) * asked, dtype=torch.int64),
            positions=torch.zeros(len(rows) * asked, dtype=torch.int64),
            out_cache_loc=torch.zeros(len(rows) * asked, dtype=torch.int64),
        )
        if verify:  # a mask is laid out by some of them, and read by none of the kernels
            batch.spec_info.custom_mask = torch.ones(sum(length + DRAFTS for length in self.lengths) * DRAFTS).bool()
        driver().bind_plan(self.runner, batch)
        return batch

    def forward(self, batch: Any) -> Any:
        """One layer of that batch, planned already, of the same queries each time. Returns [tokens, heads * rank]."""
        import torch

        random = torch.Generator().manual_seed(0)
        q = torch.randn(len(batch.positions), HEADS * (RANK + ROPE), generator=random)
        run = self.backend.forward_decode if batch.forward_mode.is_decode() else self.backend.forward_extend
        return run(q, None, None, self.layer, batch, save_kv_cache=False)

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

    def ids(self) -> Any:
        """What the layer will be handed by the latest plan: pages [B, P], or flat slots."""
        if self.attention == "trtllm_mla":
            return self.backend.forward_decode_metadata.block_kv_indices
        metadata = self.backend.forward_metadata
        return (getattr(metadata, "decode_wrapper", None) or metadata.prefill_wrapper)._kv_indices_buf


def _runner(args: Any, rows: int) -> Any:
    import torch
    from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator
    from sglang.srt.mem_cache.memory_pool import MLATokenToKVPool, ReqToTokenPool

    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.backend_fixture import TwoLayers

    pool = MLATokenToKVPool(
        size=PAGES * PAGE,
        page_size=PAGE,
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
        allocator=PagedTokenToKVPoolAllocator(PAGES * PAGE, PAGE, torch.float32, "cpu", pool, False),
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
        get_num_kv_heads=lambda tp_size: 1,
    )
    runner.max_running_requests = rows
    return runner


@contextmanager
def _stand_ins(attention: str, kernels: Kernels) -> Iterator[None]:
    """For the body, what wants CUDA: FlashInfer's wrapper but for its names, the kernels, and "cuda" as a device."""
    import flashinfer
    from flashinfer.mla import BatchMLAPagedAttentionWrapper as Wrapper

    from g4diag.stack.drive.backends import cuda_is_cpu

    parent, module = (import_module(CLASSES[name][0]) for name in ("flashinfer_mla", attention))
    decode = flashinfer.decode.trtllm_batch_decode_with_kv_cache_mla
    named = {"flashinfer": flashinfer, "_jit_fixup_module": _nothing, "_multi_ctas_kv_counter_bytes": lambda *args: 8}
    with ExitStack() as undo:
        for method, ours in (("__init__", _made), ("plan", _planned), ("run", kernels.run)):
            undo.enter_context(patch.object(Wrapper, method, bound(getattr(Wrapper, method), _method(ours))))
        for name, value in (
            ("BatchMLAPagedAttentionWrapper", Wrapper),
            ("BatchPrefillWithRaggedKVCacheWrapper", _nothing),
        ):
            undo.enter_context(patch.object(parent, name, value, create=True))
        for name, value in named.items():
            undo.enter_context(patch.object(module, name, value, create=True))
        undo.enter_context(
            patch.object(flashinfer.decode, "trtllm_batch_decode_with_kv_cache_mla", bound(decode, kernels.paged))
        )
        undo.enter_context(cuda_is_cpu())
        yield


def _method(function: Any) -> Any:
    return lambda self, **given: function(self, **given)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _made(wrapper: Any, use_cuda_graph: bool, kv_indices: Any, kv_indptr: Any, **rest: Any) -> None:
    wrapper._use_cuda_graph = use_cuda_graph
    for name, buffer in {"kv_indices": kv_indices, "kv_indptr": kv_indptr, **rest}.items():
        setattr(wrapper, f"_{name}_buf", buffer)

    def planned(*args: Any) -> None:  # sglang's own plan of a replay: workspaces, then host arrays
        wrapper.indptrs = args[3:5]

    wrapper._cached_module = SimpleNamespace(plan=planned)
    wrapper._float_workspace_buffer = wrapper._int_workspace_buffer = wrapper._pin_memory_int_workspace_buffer = None


def _planned(wrapper: Any, qo_indptr: Any, kv_indptr: Any, kv_indices: Any, sm_scale: float, **rest: Any) -> None:
    wrapper._sm_scale, wrapper.indptrs = sm_scale, (qo_indptr.clone(), kv_indptr.clone())
    if not wrapper._use_cuda_graph:
        wrapper._kv_indptr_buf, wrapper._kv_indices_buf = kv_indptr, kv_indices
        return
    wrapper._kv_indptr_buf.copy_(kv_indptr)
    wrapper._kv_indices_buf[: len(kv_indices)].copy_(kv_indices)
