"""XQA and the queries it is handed on CUDA, on the CPU.

On CUDA `Gemma4Attention` normalises and rotates q in place, so its rows are slices of the qkv buffer; on the CPU the
same class makes q anew. FlashInfer's XQA gets the query's address and no strides (csrc/xqa/xqa_wrapper.cu).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from g4diag.stack.drive.reference import PagedAttention

KERNEL = "flashinfer.decode.trtllm_batch_decode_with_kv_cache"


class PackedRows(PagedAttention):
    """Paged attention of the query rows found from the query's address on, packed, whatever its strides.

    rows: those answered. later: those of them that are not the first of their batch. wrong: those whose answer is not
    what their own query gives."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = self.later = self.wrong = 0

    def decode(self, *, query: Any, **arguments: Any) -> Any:
        """As PagedAttention's; q_len_per_req is 1 where it is not given."""
        arguments = {"q_len_per_req": 1} | arguments
        rows, heads, size = query.shape
        output = super().decode(query=query.as_strided(query.shape, (heads * size, size, 1)), **arguments)
        right = output if query.is_contiguous() else super().decode(query=query, **arguments)
        self.rows += rows
        self.later += rows - 1
        self.wrong += int((output != right).flatten(1).any(dim=1).sum())
        return output


def hand_over_rows_apart(backend: Any) -> None:
    """From here on each layer of this backend also calls the kernel with a query whose rows are two rows apart."""
    import flashinfer
    import torch

    honest = backend._get_layer_page_table

    def table(layer: Any, forward_batch: Any) -> Any:
        rows = torch.zeros(4, layer.tp_q_head_num, layer.head_dim)[::2]
        nothing = dict.fromkeys(("kv_cache", "workspace_buffer", "block_tables", "seq_lens", "max_seq_len"))
        flashinfer.decode.trtllm_batch_decode_with_kv_cache(query=rows, **nothing)
        return honest(layer, forward_batch)

    backend._get_layer_page_table = table


@contextmanager
def queries_in_place(model: Any) -> Iterator[list[tuple[int, ...]]]:
    """For the body, every Gemma4Attention of `model` hands on its query as on CUDA: a slice of its own qkv buffer. The
    strides of those whose rows are apart are kept in the list."""
    from sglang.srt.models.gemma4_causal import Gemma4Attention

    left: list[tuple[int, ...]] = []
    with ExitStack() as undo:
        for module in model.modules():
            if isinstance(module, Gemma4Attention):
                for handle in _in_place(module, left):
                    undo.callback(handle.remove)
        yield left


def _in_place(attention: Any, left: list[tuple[int, ...]]) -> tuple[Any, Any]:
    buffers: list[Any] = []

    def keep(projection: Any, given: Any, returned: Any) -> None:
        buffers[:] = [returned[0]]

    def hand_on(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        sizes = [attention.q_size, attention.kv_size, attention.kv_size]
        place = buffers.pop().split(sizes, dim=-1)[0]
        place.copy_(given[0].reshape(place.shape))
        query = place.unflatten(-1, (attention.num_heads, attention.head_dim))
        if not query.is_contiguous():
            left.append(query.stride())
        return (query, *given[1:])

    return attention.qkv_proj.register_forward_hook(keep), attention.attn.register_forward_pre_hook(hand_on)
