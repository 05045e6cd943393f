"""What a scheduler holds: pools, allocator, request rows, a prefix cache and upstream's check of its sums; all real.

Nothing here runs a model: a batch is prepared, and what its forward would have written is the machine's to book.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.swa_pool import build

VOCAB = 64
DRAFT_STEPS, DRAFT_TOKENS = 3, 4


@dataclass(frozen=True)
class Shape:
    """Sizes in tokens unless said. chunk: 0 for unchunked prefill. eagle: speculate, and key the tree by bigrams.
    overlap: a batch is prepared before the result of the last is there. new_tokens: most a request generates.
    context: longest sequence. core: implementation of the prefix tree, "" for the release's choice. interval: tokens
    that must have left the window before they are evicted, None for the release's choice. ratio: new tokens that the
    scheduler expects of a running request, of new_tokens."""

    page_size: int
    full_pages: int
    swa_pages: int
    window: int
    chunk: int
    eagle: bool
    overlap: bool
    new_tokens: int
    context: int
    core: str = ""
    interval: int | None = None
    rows: int = 4
    ratio: float = 0.3


@dataclass(frozen=True)
class CacheServer:
    """sglang's objects. model_config: plain data, as a ScheduleBatch reads it."""

    args: Any
    request_pool: Any
    allocator: Any
    cache: Any
    model_config: Any
    checker: Any


def start(shape: Shape, *, shared: bool, live: Callable[[], Sequence[Any]]) -> CacheServer:
    """A server of that shape. shared: prefixes are, in a radix tree. live: the requests that hold K/V."""
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool

    scheduling = driver().SCHEDULING
    if shape.interval is not None:
        os.environ[scheduling.EVICTION_INTERVAL] = str(shape.interval)
    args = _args(shape)
    allocator = build(shape.page_size, shape.full_pages, shape.swa_pages, need_sort=False)
    extra = max(4 * DRAFT_TOKENS, driver().row_headroom(args))
    request_pool = ReqToTokenPool(shape.rows, shape.context + extra, "cpu", False)
    cache = scheduling.prefix_cache(
        shared=shared,
        core=shape.core,
        req_to_token_pool=request_pool,
        token_to_kv_pool_allocator=allocator,
        page_size=shape.page_size,
        is_eagle=shape.eagle,
        sliding_window_size=shape.window,
        chunked_prefill_size=shape.chunk or -1,
    )
    model_config = SimpleNamespace(is_encoder_decoder=False, vocab_size=VOCAB, is_multimodal=False)
    checker = _checker(args, request_pool, allocator, cache, live)
    return CacheServer(args, request_pool, allocator, cache, model_config, checker)


def request(rid: str, tokens: Sequence[int], new_tokens: int) -> Any:
    """A real Req that no token stops."""
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.sampling.sampling_params import SamplingParams

    sampling = SamplingParams(max_new_tokens=new_tokens, temperature=0, ignore_eos=False)
    sampling.normalize(None)
    return Req(rid, "", array("q", tokens), sampling, vocab_size=VOCAB)


def _args(shape: Shape) -> Any:
    from g4diag.stack.drive import cpu

    args = cpu.server_args(
        page_size=shape.page_size,
        chunked_prefill_size=shape.chunk or -1,
        attention_backend="torch_native",  # for upstream's torch path of req_to_token writes, as in stack/serving.py
        speculative_algorithm="EAGLE" if shape.eagle else None,
        speculative_num_steps=DRAFT_STEPS,
        speculative_eagle_topk=1,
        speculative_num_draft_tokens=DRAFT_TOKENS,
        disable_overlap_schedule=not shape.overlap,
    )
    driver().publish(args)
    return args


def _checker(args: Any, request_pool: Any, allocator: Any, cache: Any, live: Callable[[], Sequence[Any]]) -> Any:
    """Upstream's check of the pools' sums while requests run, asked of one batch of all requests that hold K/V."""

    def everyone() -> Any:
        reqs = list(live())
        return SimpleNamespace(reqs=reqs, is_empty=lambda: not reqs)

    shared: dict[str, Any] = {
        "tree_cache": cache,
        "token_to_kv_pool_allocator": allocator,
        "req_to_token_pool": request_pool,
        "is_hybrid_swa": True,
        "is_hybrid_ssm": False,
        "full_tokens_per_layer": allocator.size_full,
        "swa_tokens_per_layer": allocator.size_swa,
        "max_total_num_tokens": allocator.size_full,
    }
    batches = {"get_last_batch": everyone, "get_running_batch": lambda: None}
    return driver().SCHEDULING.checker(args, shared, batches)


def tree_cores() -> tuple[str, ...]:
    """Implementations of the prefix tree that this release may be told to use; none where there is one only."""
    return tuple(driver().SCHEDULING.tree_cores())


def layer_window(shape: Shape) -> int:
    """Keys left of its query that a sliding layer of Gemma-4 has its kernel read, for a cache that keeps
    shape.window."""
    return int(shape.window + driver().SCHEDULING.LAYER_WINDOW_PAST_CACHE)


def can_wait_to_evict() -> bool:
    """Whether this release can be told how many tokens must have left the window before it evicts them."""
    return bool(driver().SCHEDULING.EVICTION_INTERVAL)


@contextmanager
def environment_kept() -> Iterator[None]:
    """After the body the process's environment variables are what they were."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
