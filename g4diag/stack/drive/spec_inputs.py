"""What a speculative step carries on its batch."""

from __future__ import annotations

from typing import Any

from g4diag.stack.drive.driver import driver


def eagle_draft() -> Any:
    """An EAGLE draft step's, with nothing in it."""
    from sglang.srt.speculative.eagle_info import EagleDraftInput

    return EagleDraftInput()


def eagle_extend(accepted_B: Any, accepted: list[int] | None, width: int) -> Any:
    """An EAGLE draft extend's. accepted_B: int64 [batch] tensor of tokens that each row was left with; accepted: the
    same on the host, None for padding only. width: tokens a row in a graph."""
    return driver().FIXTURES.eagle_extend(accepted_B, accepted, width)


def frozen_draft(rows: int) -> Any:
    """A frozen-KV draft's: zeros, int64 [rows] tokens and float32 [rows, 1] hidden states."""
    import torch
    from sglang.srt.speculative.frozen_kv_mtp_info import FrozenKVMTPDraftInput

    return FrozenKVMTPDraftInput(bonus_tokens=torch.zeros(rows, dtype=torch.int64), hidden_states=torch.zeros(rows, 1))


def tree(parents: list[int]) -> Any:
    """bool [drafted, drafted]: which drafted tokens each one sees: itself, its parent, and so on. parents: of each
    token but the first, an earlier one."""
    import torch

    sees = torch.eye(len(parents) + 1, dtype=torch.bool)
    for token, parent in enumerate(parents, start=1):
        sees[token] |= sees[parent]
    return sees


def tree_verify(lens: list[int], trees: list[Any], topk: int) -> Any:
    """A target verify's of one tree of drafted tokens a request, as far as a backend plans by it. lens: committed
    tokens of each. trees: bool [drafted, drafted] each, which tokens each token sees. topk: branches of a step."""
    import torch

    drafted = len(trees[0])
    made = chain_verify(lens, drafted)
    made.topk = topk
    masks = [torch.cat([tree.new_ones(drafted, n), tree], dim=1) for n, tree in zip(lens, trees, strict=True)]
    made.custom_mask = torch.cat([mask.flatten() for mask in masks])
    made.positions = torch.cat([n + tree.sum(dim=1) - 1 for n, tree in zip(lens, trees, strict=True)])
    return made


def chain_verify(lens: list[int], drafted: int) -> Any:
    """A target verify's of one chain of `drafted` tokens a request, as far as a backend plans by it. A chain needs no
    mask. lens: committed tokens of each."""
    import torch
    from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode
    from sglang.srt.speculative.eagle_info import EagleVerifyInput

    chain, rows = torch.arange(drafted), len(lens)
    return EagleVerifyInput(
        draft_token=torch.zeros(rows * drafted, dtype=torch.int64),
        custom_mask=None,
        positions=torch.cat([n + chain for n in lens]),
        retrieve_index=torch.arange(rows * drafted).view(rows, drafted),
        retrieve_next_token=torch.cat([chain[1:], torch.tensor([-1])]).repeat(rows, 1),
        retrieve_next_sibling=torch.full((rows, drafted), -1),
        retrieve_cum_len=None,
        spec_steps=drafted - 1,
        topk=1,
        draft_token_num=drafted,
        capture_hidden_mode=CaptureHiddenMode.FULL,
        seq_lens_sum=sum(lens),
        seq_lens_cpu=torch.tensor(lens),
    )
