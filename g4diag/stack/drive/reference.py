"""The one stand-in: attention in fp32, once through page tables and once without any.

Both go through `attend` on keys in position order, so equal K/V gives bit-equal output and any difference is
the table's. Shapes: Q queries, N keys, H query heads, K key/value heads, D head dim, B rows, P table columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch


def attend(q_QHD: torch.Tensor, k_NKD: torch.Tensor, v_NKD: torch.Tensor, scale: float, window: int) -> torch.Tensor:
    """Causal attention of the last Q positions of N. window: keys left of each query that it sees, -1 for all.
    Keys must start early enough for the first query's window. Returns float32 [Q, H, D]."""
    queries, heads, _ = q_QHD.shape
    keys = k_NKD.shape[0]
    k, v = _by_query_head(k_NKD, heads), _by_query_head(v_NKD, heads)
    scores = torch.bmm(q_QHD.float().transpose(0, 1), k.transpose(1, 2)).mul_(scale)
    if queries > 1 or 0 <= window < keys - 1:  # else the one query sees them all
        scores.masked_fill_(_unseen(queries, keys, window), float("-inf"))
    return torch.bmm(torch.softmax(scores, dim=-1), v).transpose(0, 1)


def _by_query_head(kv_NKD: torch.Tensor, heads: int) -> torch.Tensor:
    """float32 [H, N, D]; a single K/V head is not copied."""
    kv_KND = kv_NKD.float().transpose(0, 1)
    if len(kv_KND) == 1:
        return kv_KND.expand(heads, -1, -1)
    return kv_KND.repeat_interleave(heads // len(kv_KND), dim=0)


@lru_cache(maxsize=64)
def _unseen(queries: int, keys: int, window: int) -> torch.Tensor:
    """bool [Q, N]: keys after the query, or in front of its window."""
    at_Q = torch.arange(keys - queries, keys)[:, None]
    key_N = torch.arange(keys)[None, :]
    return (key_N > at_Q) if window < 0 else (key_N > at_Q) | (key_N < at_Q - window)


def first_key(seq_len: int, q_len: int, window: int) -> int:
    """Position of the oldest key that any of the last `q_len` queries of `seq_len` tokens sees."""
    return 0 if window < 0 else max(0, seq_len - q_len - window)


@dataclass
class PagedAttention:
    """Paged attention with every table entry bounds-checked before it is followed.

    out_of_range_B holds, for the latest call, how many live entries of each row lie outside the cache; such a
    row would fault on a GPU, and reads the dummy page here so that the run can go on and be counted.
    attend_prefill: `attend`, or what answers as it does.
    """

    attend_prefill: Callable[..., torch.Tensor] = attend
    out_of_range_B: list[int] = field(default_factory=list)
    entries: int = 0

    def decode(self, *, query: Any, kv_cache: Any, block_tables: Any, seq_lens: Any, **arguments: Any) -> Any:
        """flashinfer.decode.trtllm_batch_decode_with_kv_cache: query [B * q_len, H, D], kv_cache of two
        [pages, K, page_size, D], block_tables int32 [B, P], seq_lens int32 [B]. Returns like query."""
        q_len = arguments["q_len_per_req"] or 1
        return self._run(query, kv_cache, block_tables, seq_lens, [q_len] * len(seq_lens), arguments, attend)

    def prefill(self, *, query: Any, kv_cache: Any, block_tables: Any, seq_lens: Any, **arguments: Any) -> Any:
        """flashinfer.prefill.trtllm_batch_context_with_kv_cache: as decode, with query rows split by
        cum_seq_lens_q int32 [B + 1]."""
        cumulative = arguments["cum_seq_lens_q"].tolist()
        q_lens = [end - start for start, end in pairwise(cumulative)]
        return self._run(query, kv_cache, block_tables, seq_lens, q_lens, arguments, self.attend_prefill)

    def _run(
        self,
        query: torch.Tensor,
        kv_cache: tuple[torch.Tensor, torch.Tensor],
        block_tables: torch.Tensor,
        seq_lens: torch.Tensor,
        q_lens: list[int],
        arguments: dict[str, Any],
        attention: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        scale = float(arguments["bmm1_scale"])
        window = int(arguments["window_left"])
        self.out_of_range_B = []
        outputs = []
        start = 0
        for row, (seq_len, q_len) in enumerate(zip(seq_lens.tolist(), q_lens, strict=True)):
            k, v = self.gather(kv_cache, block_tables[row], seq_len, first_key(seq_len, q_len, window))
            outputs.append(attention(query[start : start + q_len], k, v, scale, window))
            start += q_len
        return torch.cat(outputs).to(query.dtype)

    def gather(
        self, kv_cache: tuple[torch.Tensor, torch.Tensor], table_P: torch.Tensor, seq_len: int, first: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """K and V of one row's keys from `first` on, [keys, K, D], through its table."""
        pages, _, page_size, _ = kv_cache[0].shape
        first_column, last_column = first // page_size, (seq_len - 1) // page_size
        live = table_P[first_column : last_column + 1].long()
        bad = (live < 0) | (live >= pages)
        self.out_of_range_B.append(int(bad.sum()))
        self.entries += len(live)
        live = torch.where(bad, 0, live)
        cut = slice(first - first_column * page_size, seq_len - first_column * page_size)
        k, v = (cache.index_select(0, live).transpose(1, 2).flatten(0, 1)[cut] for cache in kv_cache)
        return k, v


@dataclass
class LogicalKV:
    """K/V by request and position, exactly as the model produced them: no pool, no page, no table.

    `placing` says where the rows of the forward in progress belong; `record` takes them per layer."""

    placing: list[tuple[str, int, int]] = field(default_factory=list)
    layers: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    capacity: int = 0

    @contextmanager
    def placed(self, rows: list[tuple[str, int, int]]) -> Iterator[None]:
        """For the body, the forward's rows are (rid, first position, end position)."""
        self.placing = rows
        yield
        self.placing = []

    def follow(self, kv_pool: Any) -> None:
        """Record every write into `kv_pool` from now on; a kernel that writes by itself finds us at the pool."""
        kv_pool.g4diag_logical = self
        write = kv_pool.set_kv_buffer

        def recording(layer: Any, loc: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> None:
            self.record(layer.layer_id, k, v)
            write(layer, loc, k, v, *args, **kwargs)

        kv_pool.set_kv_buffer = recording

    def record(self, layer_id: int, k: torch.Tensor, v: torch.Tensor) -> None:
        """k, v: [tokens, K, D] of one layer for the forward in progress, rows in `placing` order."""
        start = 0
        for rid, first, last in self.placing:
            rows = slice(start, start + last - first)
            start += last - first
            if (rid, layer_id) not in self.layers:
                shape = (self.capacity, *k.shape[1:])
                self.layers[rid, layer_id] = (torch.empty(shape), torch.empty(shape))
            for store, new in zip(self.layers[rid, layer_id], (k, v), strict=True):
                store[first:last] = new[rows]

    def attend(
        self, rid: str, layer_id: int, q_QHD: torch.Tensor, seq_len: int, scale: float, window: int
    ) -> torch.Tensor:
        """What attention over this request's own K/V gives, float32 [Q, H, D]."""
        first = first_key(seq_len, q_QHD.shape[0], window)
        k, v = self.layers[rid, layer_id]
        return attend(q_QHD, k[first:seq_len], v[first:seq_len], scale, window)


class LogicalBackend:
    """An attention backend that knows positions only; the truth a draft's tokens are compared with.

    rid_of: request row -> rid."""

    def __init__(self, kv: LogicalKV, rid_of: dict[int, str]) -> None:
        self.kv, self.rid_of = kv, rid_of
        self.extra_keys = 0  # keys beyond forward_batch.seq_lens that a query sees: the one it wrote itself
        self.token_to_kv_pool: Any = None  # swapped by the views, read by nobody
        self.req_to_token_pool: Any = None

    def init_forward_metadata(self, forward_batch: Any) -> None:
        """Nothing to plan without tables."""

    def forward(self, q: Any, k: Any, v: Any, layer: Any, forward_batch: Any, save_kv_cache: bool = True) -> Any:
        """RadixAttention's entry: q [B, H * D] with one query a row. Returns [B, H * D]."""
        del k, v, save_kv_cache
        q = q.reshape(-1, layer.tp_q_head_num, layer.head_dim)
        rows = forward_batch.req_pool_indices.tolist()
        ends = (forward_batch.seq_lens + self.extra_keys).tolist()
        layer_id, scale, window = layer.layer_id, layer.scaling, layer.sliding_window_size
        outputs = [
            self.kv.attend(self.rid_of[row], layer_id, q[i : i + 1], end, scale, window)
            for i, (row, end) in enumerate(zip(rows, ends, strict=True))
        ]
        return torch.cat(outputs).reshape(len(rows), -1).to(q.dtype)
