"""The one stand-in: right against torch's own attention, bounds-checked, and bit-equal paged and logical."""

from __future__ import annotations

import torch

from g4diag.stack.drive.reference import LogicalKV, PagedAttention, attend, first_key

HEADS, KV_HEADS, DIM, PAGE = 4, 2, 8, 4


def random_kv(tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(tokens, HEADS, DIM, generator=generator)
    k, v = (torch.randn(tokens, KV_HEADS, DIM, generator=generator) for _ in range(2))
    return q, k, v


def paged(k: torch.Tensor, v: torch.Tensor, pages: list[int], pool: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Caches [pool, K, PAGE, D] full of noise, with position p of k and v on page pages[p // PAGE]."""
    caches = []
    for rows in (k, v):
        cache = torch.full((pool, KV_HEADS, PAGE, DIM), 7.0)
        for position, row in enumerate(rows):
            cache[pages[position // PAGE], :, position % PAGE] = row
        caches.append(cache)
    return caches[0], caches[1]


def decode(kernel: PagedAttention, q: torch.Tensor, cache: tuple[torch.Tensor, torch.Tensor], table: list[int]) -> None:
    """One decode row over `table`, whole context of `len(table)` pages."""
    kernel.decode(
        query=q[-1:],
        kv_cache=cache,
        block_tables=torch.tensor([table], dtype=torch.int32),
        seq_lens=torch.tensor([len(table) * PAGE], dtype=torch.int32),
        bmm1_scale=0.5,
        window_left=-1,
        q_len_per_req=1,
    )


def test_attend_is_torchs_causal_attention() -> None:
    q, k, v = random_kv(10)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), is_causal=True, scale=0.5, enable_gqa=True
    )
    torch.testing.assert_close(attend(q, k, v, 0.5, -1), wanted.transpose(0, 1))


def test_one_kv_head_is_as_many_that_are_equal() -> None:
    """It is not copied for each query head. The last queries alone, too, and again by a mask that is kept."""
    q, k, v = random_kv(10)
    k, v = k[:, :1], v[:, :1]
    for queries, window in ((10, -1), (10, 3), (4, 3), (1, 3), (1, -1)) * 2:
        wanted = attend(q[-queries:], k.expand(-1, HEADS, -1), v.expand(-1, HEADS, -1), 0.5, window)
        assert torch.equal(attend(q[-queries:], k, v, 0.5, window), wanted)


def test_a_window_of_w_sees_the_query_and_w_keys_before_it() -> None:
    q, k, v = random_kv(10)
    # Not bit for bit: some processors' matrix kernels round by the number of keys, those outside the window included.
    torch.testing.assert_close(attend(q[-1:], k, v, 0.5, 3), attend(q[-1:], k[-4:], v[-4:], 0.5, 3))
    torch.testing.assert_close(attend(q[-1:], k, v, 0.5, 3), attend(q[-1:], k[-4:], v[-4:], 0.5, -1))
    assert (
        first_key(10, 1, 3) == 6 and first_key(10, 4, 3) == 3 and first_key(2, 1, 3) == 0 and first_key(10, 1, -1) == 0
    )


def test_one_query_whose_window_holds_all_keys_sees_them_all_and_one_less_does_not() -> None:
    q, k, v = random_kv(5)
    everything = attend(q[-1:], k, v, 0.5, -1)
    assert torch.equal(attend(q[-1:], k, v, 0.5, 4), everything)
    assert torch.equal(attend(q[-1:], k, v, 0.5, 9), everything)
    assert not torch.allclose(attend(q[-1:], k, v, 0.5, 3), everything)
    torch.testing.assert_close(attend(q[-1:], k, v, 0.5, 3), attend(q[-1:], k[1:], v[1:], 0.5, -1))


def test_paged_decode_equals_the_logical_truth_bit_for_bit() -> None:
    q, k, v = random_kv(11)
    cache = paged(k, v, [5, 2, 6], pool=8)
    logical = LogicalKV(capacity=16)
    with logical.placed([("r", 0, 11)]):
        logical.record(0, k, v)
    output = PagedAttention().decode(
        query=q[-1:],
        kv_cache=cache,
        block_tables=torch.tensor([[5, 2, 6, 99]], dtype=torch.int32),  # the stale tail is not followed
        seq_lens=torch.tensor([11], dtype=torch.int32),
        bmm1_scale=0.5,
        window_left=6,
        q_len_per_req=1,
    )
    assert torch.equal(output, logical.attend("r", 0, q[-1:], 11, 0.5, 6))


def test_prefill_rows_are_split_by_cumulative_query_lengths() -> None:
    q, k, v = random_kv(12)
    cache = paged(k, v, [1, 2, 3], pool=5)
    output = PagedAttention().prefill(
        query=torch.cat([q[4:8], q[10:12]]),
        kv_cache=cache,
        block_tables=torch.tensor([[1, 2, 3], [1, 2, 3]], dtype=torch.int32),
        seq_lens=torch.tensor([8, 12], dtype=torch.int32),
        bmm1_scale=0.5,
        window_left=-1,
        cum_seq_lens_q=torch.tensor([0, 4, 6], dtype=torch.int32),
    )
    whole = attend(q, k, v, 0.5, -1)
    torch.testing.assert_close(output, torch.cat([whole[4:8], whole[10:12]]))


def test_an_entry_outside_the_cache_is_counted_and_never_followed() -> None:
    q, k, v = random_kv(12)
    kernel = PagedAttention()
    decode(kernel, q, paged(k, v, [1, 2, 3], pool=5), [1, 5, -1])
    assert kernel.out_of_range_B == [2] and kernel.entries == 3
    decode(kernel, q, paged(k, v, [1, 2, 3], pool=5), [1, 2, 4])
    assert kernel.out_of_range_B == [0]
