"""TensorRT-LLM's FMHAv2 prefill (SM90, SM120), as trtllm_mha calls it from 0.5.23 on: the second place in which a wrong
page id matters.

The kernel takes no table of pages but blocks. Where K and V lie in one allocation these are offsets from K's address,
int32 [B, 2, P]: a row of K's and one of V's. Else the batch's pages are copied, and blocks, int32 [B, P], count within
the copy. Both are turned back into the pages that they stand for, by the addresses and by what was copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from g4diag.hooks.anchors import Anchor
from g4diag.stack.backends.contract import KernelCall
from g4diag.stack.releases.contract import Point

NOWHERE = -1  # a block that is no page of the pool


class Blocks(NamedTuple):
    """What the kernel is handed. table: int32 [B, 2, P] or [B, P]. kv: (K, V), each [pages, ...], or both copied,
    [pages, 2, ...]."""

    table: Any
    kv: Any


def pages(blocks: Blocks, metadata: Any, own_BP: Any) -> Any:
    """The pool's pages that a row's blocks stand for, int32: [2 * B, P], of row b K's in 2 * b and V's in 2 * b + 1,
    or [B, P] of a copy. own_BP: the table that was copied by. None for a plain table."""
    if blocks.table.dim() == 3:
        pages_B2P, shift = blocks.table.clone(), v_shift(blocks.kv)
        pages_B2P[:, 1] = NOWHERE if shift is None else pages_B2P[:, 1] - shift
        return pages_B2P.flatten(0, 1)
    copy_BP = metadata.fmha_v2_block_table
    if copy_BP is None or blocks.table.data_ptr() != copy_BP.data_ptr():
        return None
    copied_N = own_BP[metadata.fmha_v2_copy_rows, metadata.fmha_v2_copy_cols]
    inside_BP = (blocks.table >= 0) & (blocks.table < len(copied_N))
    return copied_N[blocks.table.clamp(0, len(copied_N) - 1).long()].where(inside_BP, NOWHERE)


def v_shift(kv: Any) -> int | None:
    """Blocks from K's first page to V's; None if V's do not begin where a block does."""
    k, v = kv
    shift, rest = divmod(v.data_ptr() - k.data_ptr(), k.stride(0) * k.element_size())
    return None if rest else shift


def _blocks(qkv: Any, *args: Any, block_tables: Any = None, **kwargs: Any) -> Blocks | None:
    return None if block_tables is None or len(qkv) != 2 else Blocks(block_tables, qkv[1])


def _handing(handed: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Other pages, in place of offsets. A copy holds what was copied by a table that was judged itself."""
    if isinstance(handed, Blocks) or kwargs["block_tables"].dim() != 3:
        return args, kwargs
    offsets_B2P = handed.view(kwargs["block_tables"].shape).clone()
    offsets_B2P[:, 1] += v_shift((args[0] if args else kwargs["qkv"])[1]) or 0
    return args, kwargs | {"block_tables": offsets_B2P}


def call(backend: str) -> KernelCall:
    """Its call by this backend, where that expands its tables."""
    return KernelCall(
        table=_blocks,
        handing=_handing,
        point=Point("flashinfer.prefill.trtllm_fmha_v2_prefill", ("qkv", "input_layout")),
        called=Anchor(backend, "def _fmha_v2_paged_inputs("),
    )
