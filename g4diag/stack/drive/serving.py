"""Serve requests on the CPU through sglang's own pools, allocator, radix cache, requests and batches.

What a scheduler does, without its processes: chunked prefill through PrefillAdder, target forwards through
ModelRunner and TRTLLMHAAttnBackend, decode with window eviction, release into the radix cache. Every K/V row
the target writes is also kept by request and position (`LogicalKV`), which is the truth to compare with.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from g4diag.errors import UsageError
from g4diag.stack.drive import cpu
from g4diag.stack.drive.attention_backends import attention_backend
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.reference import LogicalKV
from g4diag.stack.drive.request_state import prefill_end, prefix_len, request_row
from g4diag.stack.drive.scheduler import release, stash
from g4diag.stack.drive.warm import warm
from g4diag.stack.pairs import tiny_gemma


@dataclass(frozen=True)
class Geometry:
    """Sizes in tokens unless said. ratio: SWA tokens a full token. chunk: 0 for unchunked prefill.
    live: requests decoding together."""

    full_tokens: int = 16384
    ratio: float = 0.15
    page_size: int = 16
    window: int = 128
    chunk: int = 256
    prompt: int = 1000
    requests: int = 6
    live: int = 3
    steps_per_admission: int = 2
    draft_steps: int = 3

    @property
    def swa_tokens(self) -> int:
        """SWA pool size, whole pages."""
        return int(self.full_tokens * self.ratio) // self.page_size * self.page_size

    @property
    def context(self) -> int:
        """Longest sequence, draft tokens included, whole pages."""
        return -(-(self.prompt + self.new_tokens + self.draft_steps + 1) // self.page_size) * self.page_size

    @property
    def new_tokens(self) -> int:
        """Tokens a request generates before its row is taken by another."""
        return 1 + self.steps_per_admission * self.live

    def check(self) -> None:
        """Raise UsageError naming the first size that cannot be served."""
        page, chunk = self.page_size, self.chunk
        for wrong, text in (
            (page not in (16, 32, 64), f"--page-size {page}: trtllm_mha has pages of 16, 32 or 64 tokens"),
            (self.requests < 1, f"--requests {self.requests}: at least 1 is needed"),
            (not 0 < self.ratio <= 1, f"--ratio {self.ratio}: must be in (0, 1]"),
            (self.window < 1, f"--window {self.window}: at least 1 token is needed"),
            (chunk < 0, f"--chunk {chunk}: 0 (unchunked) or a number of tokens"),
            (chunk % page != 0, f"--chunk {chunk}: must be a multiple of the page size {page}"),
            (self.window >= self.prompt, f"--window {self.window}: prompts of {self.prompt} tokens never leave it"),
        ):
            if wrong:
                raise UsageError(text)
        need = self.window + 2 * page + (chunk or self.prompt + page)
        if self.swa_tokens < need:
            raise UsageError(
                f"--ratio {self.ratio}: an SWA pool of {self.swa_tokens} tokens cannot hold one request,"
                f" which needs {need} (window {self.window}, chunk {chunk or 'none'}, page {page})"
            )


class Serving:
    """One server's worth of state. Build under an applied state, then `admit`, `decode` and `release`.

    pair: the module that makes the models and the prompts: `tiny_gemma`, or `accepting_pair.models`. backend: its
    attention backend, "trtllm_mha", "triton", "flashinfer", "fa4" or "intel_amx". bigrams: keys of the radix cache are
    those, as on an EAGLE server."""

    def __init__(
        self,
        geometry: Geometry,
        seed: int,
        *,
        algorithm: str = "FROZEN_KV_MTP",
        pair: Any = tiny_gemma,
        backend: str = "trtllm_mha",
        bigrams: bool = False,
    ) -> None:
        from sglang.srt.mem_cache.memory_pool import ReqToTokenPool

        geometry.check()
        self.geometry, self.seed, self.pair, self.backend_name = geometry, seed, pair, backend
        self.args = cpu.server_args(
            page_size=geometry.page_size,
            chunked_prefill_size=geometry.chunk or -1,
            # Chooses upstream's torch path for positions and req_to_token writes over its Triton one, which is
            # slow interpreted. The attention backend itself is built below, not chosen by name.
            attention_backend="torch_native",
            speculative_algorithm=algorithm,
            speculative_num_steps=geometry.draft_steps,
            speculative_eagle_topk=1,
            speculative_num_draft_tokens=geometry.draft_steps + 1,
            cuda_graph_bs=[1, 2, geometry.live],
            disable_overlap_schedule=True,
        )
        self.config, self.model = self._started()
        self.request_pool = ReqToTokenPool(geometry.live + 1, geometry.context, "cpu", False)
        self.kv_pool, self.allocator = self._pools()
        self.tree_cache = self._tree_cache(bigrams)
        self._make_runner(algorithm)
        self.logical = LogicalKV(capacity=geometry.context)
        self.logical.follow(self.kv_pool)
        self.running: Any = None
        self.rid_of, self.followers = dict[int, str](), list[Any]()
        self.hidden: dict[str, torch.Tensor] = {}

    def _started(self) -> tuple[Any, Any]:
        cpu.start_process(self.args)
        return self.pair.target_model(self.geometry.window, self.seed)

    def _make_runner(self, algorithm: str) -> None:
        self.runner = cpu.model_runner(
            self.model,
            self.config,
            self.args,
            request_pool=self.request_pool,
            allocator=self.allocator,
            kv_pool=self.kv_pool,
            context_len=self.geometry.context,
            is_draft=False,
            algorithm=algorithm,
        )
        self.runner.attn_backend = self._backend()
        driver().finish_runner(self.runner)

    def _backend(self) -> Any:
        return attention_backend(self.backend_name, self.runner)

    def _pools(self) -> tuple[Any, Any]:
        from sglang.srt.mem_cache.allocator.swa import SWATokenToKVPoolAllocator
        from sglang.srt.mem_cache.swa_memory_pool import SWAKVPool

        types = self.config.layer_types
        pool = SWAKVPool(
            size=self.geometry.full_tokens,
            size_swa=self.geometry.swa_tokens,
            page_size=self.geometry.page_size,
            dtype=torch.float32,
            head_num=self.config.num_key_value_heads,
            head_dim=self.config.head_dim,
            swa_attention_layer_ids=[i for i, kind in enumerate(types) if kind == "sliding_attention"],
            full_attention_layer_ids=[i for i, kind in enumerate(types) if kind == "full_attention"],
            device="cpu",
            **driver().SWA_POOL_ARGUMENTS,
        )
        warm(pool.full_kv_pool, self.seed)
        warm(pool.swa_kv_pool, self.seed + 1)
        allocator = SWATokenToKVPoolAllocator(
            self.geometry.full_tokens,
            self.geometry.swa_tokens,
            page_size=self.geometry.page_size,
            dtype=torch.float32,
            device="cpu",
            kvcache=pool,
            need_sort=False,
        )
        return pool, allocator

    def _tree_cache(self, bigrams: bool) -> Any:
        return driver().tree_cache(
            req_to_token_pool=self.request_pool,
            token_to_kv_pool_allocator=self.allocator,
            page_size=self.geometry.page_size,
            sliding_window_size=self.model.get_attention_sliding_window_size(),
            is_eagle=bigrams,
        )

    def prompts(self) -> Iterator[tuple[str, list[int]]]:
        """(rid, token ids) of every request, the same for the same seed. Lengths vary within two pages, so that
        requests cross page boundaries at different steps."""
        generator = torch.Generator().manual_seed(self.seed)
        for i in range(self.geometry.requests):
            shorter = torch.randint(0, 2 * self.geometry.page_size, (1,), generator=generator)
            length = self.geometry.prompt - int(shorter)
            yield f"r{i}", self.pair.prompt(length, self.geometry.window, generator)

    def admit(self, rid: str, ids: list[int]) -> bool:
        """Prefill one request, chunk by chunk, and join it to the running batch. False: no room now."""
        from sglang.srt.managers.schedule_batch import Req
        from sglang.srt.sampling.sampling_params import SamplingParams

        sampling = SamplingParams(max_new_tokens=self.geometry.new_tokens, temperature=0)
        req = Req(rid, "", array("q", ids), sampling, vocab_size=self.pair.VOCAB)
        chunked = None
        while True:
            adder = self._adder()
            if chunked is None:
                req.init_next_round_input(self.tree_cache)
                adder.add_one_req(req, has_chunked_req=False, truncation_align_size=None)
                chunked = adder.new_chunked_req
            else:
                req.init_next_round_input()
                chunked = adder.add_chunked_req(req)
            if not adder.can_run_list:
                return False
            batch = self._prefill(req, is_last=chunked is None)
            if chunked is None:
                break
        if self.running is None or self.running.is_empty():
            self.running = batch
        else:
            self.running.merge_batch(batch)
        return True

    def _adder(self) -> Any:
        from sglang.srt.managers.schedule_policy import PrefillAdder

        return PrefillAdder(
            self.geometry.page_size,
            self.tree_cache,
            self.allocator,
            self.running,
            1.0,
            self.geometry.full_tokens,
            self.geometry.chunk or None,
        )

    def _prefill(self, req: Any, *, is_last: bool) -> Any:
        from sglang.srt.managers.schedule_batch import ScheduleBatch
        from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

        batch = ScheduleBatch.init_new(
            [req],
            self.request_pool,
            self.allocator,
            self.tree_cache,
            self.runner.model_config,
            False,
            SpeculativeAlgorithm.NONE,
            chunked_req=None if is_last else req,
        )
        req.inflight_middle_chunks += not is_last
        batch.prepare_for_extend()
        batch.input_ids = batch.prefill_input_ids_cpu
        self.rid_of[request_row(req)] = req.rid
        rows = [(req.rid, prefix_len(req), prefill_end(req))]
        with self.logical.placed(rows):
            output = self._forward(batch, "FULL")
        for follower in self.followers:
            follower.after_prefill(batch, rows)
        if is_last:
            self._take_tokens(batch, output.next_token_logits, output.hidden_states[-1:])
        stash(req, self.tree_cache, chunked=not is_last)
        req.inflight_middle_chunks -= not is_last
        return batch

    def decode(self) -> None:
        """One target token for every running request."""
        batch = self.running
        batch.input_ids = torch.tensor([req.output_ids[-1] for req in batch.reqs], dtype=torch.int64)
        batch.prepare_for_decode()
        ends = batch.seq_lens.tolist()
        rows = [(req.rid, end - 1, end) for req, end in zip(batch.reqs, ends, strict=True)]
        with self.logical.placed(rows):
            output = self._forward(batch, "LAST")
        for follower in self.followers:
            follower.after_decode(batch, rows)
        self._take_tokens(batch, output.next_token_logits, output.hidden_states)

    def release(self, req: Any) -> None:
        """Finish a running request: its K/V goes to the radix cache, its row back to the pool."""
        row = request_row(req)
        release(req, self.tree_cache)
        keep = [i for i, other in enumerate(self.running.reqs) if other is not req]
        self.running.filter_batch(keep_indices=keep)
        del self.rid_of[row]

    def _forward(self, batch: Any, hidden: str) -> Any:
        return self.runner.forward(driver().forward_batch(batch, self.runner, hidden)).logits_output

    def _take_tokens(self, batch: Any, logits: torch.Tensor, hidden: torch.Tensor) -> None:
        for req, token, state in zip(batch.reqs, logits.argmax(dim=-1).tolist(), hidden, strict=True):
            req.output_ids.append(token)
            self.hidden[req.rid] = state
