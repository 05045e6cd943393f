"""The two dump kinds of the fork pyc96/sglang, taken for what they measured and not for what they concluded."""

from __future__ import annotations

from typing import Any

import numpy as np

from g4diag.dump.codecs import At, Flag, Int, Ints, Many, Maybe, Text
from g4diag.dump.schema import MAX_COUNT, MAX_PAGE_SIZE
from g4diag.model import Allocation, AttentionRead, Grade, Incident, IndexSpace, LayerKind, PoolView

_COUNT = Int(0, MAX_COUNT)
_SIZE = Int(1, MAX_COUNT)
_PAGE_SIZE = Int(1, MAX_PAGE_SIZE)
UNKNOWN_STEP = -1

Note = tuple[Grade, str]


def is_page_table(document: dict[str, Any]) -> bool:
    """Whether this looks like the fork's page-table dump."""
    return "page_table" in document and "cache_seqlens_int32" in document


def is_allocator(document: dict[str, Any]) -> bool:
    """Whether this looks like the fork's allocator dump."""
    return "alloc_swa_indices" in document and "swa_pool_size" in document


def from_page_table(document: dict[str, Any]) -> Incident:
    """One AttentionRead. Raises UnsafeInputError naming the field that is malformed or contradicts another."""
    at = At()
    table_BP = Ints(2, np.int32).unpack(document["page_table"], at.of("page_table"))
    seq_lens_B = Ints(1, np.int32).unpack(document["cache_seqlens_int32"], at.of("cache_seqlens_int32"))
    if seq_lens_B.shape != table_BP.shape[:1]:
        at.of("cache_seqlens_int32").refuse(f"one entry for each of {table_BP.shape[0]} rows", seq_lens_B)
    pages, page_size = _geometry(document, at)
    window = Maybe(Int(-1, MAX_COUNT)).unpack(document.get("sliding_window"), at.of("sliding_window"))
    claimed = Flag().unpack(document.get("is_swa_layer"), at.of("is_swa_layer"))
    kind = LayerKind.SWA if window is not None and window > 0 else LayerKind.FULL
    swa = kind is LayerKind.SWA
    space = IndexSpace.SWA_PAGE if swa else IndexSpace.FULL_PAGE
    read = AttentionRead(
        step=UNKNOWN_STEP,
        worker="",
        phase=Text().unpack(document.get("forward_mode"), at.of("forward_mode")).rpartition(".")[2].lower(),
        path="",
        backend="",
        layer_id=_COUNT.unpack(document.get("layer_id"), at.of("layer_id")),
        layer_kind=kind,
        window_left=window if window is not None and swa else -1,
        pool=PoolView(kind.value, space, page_size, pages),
        table_space=None,
        page_table_BP=table_BP,
        seq_lens_B=seq_lens_B,
    )
    outside = bool((read.live_BP() & (table_BP >= pages)).any())
    notes = (*_kind_notes(kind, window, claimed, outside), *_page_table_limits(read))
    return Incident("fork-page-table", reads=(read,), pools=(read.pool,), notes=notes)


def _geometry(document: dict[str, Any], at: At) -> tuple[int, int]:
    """(pages, page size), said twice in the file and required to agree."""
    shape = Many(_COUNT, list).unpack(document.get("k_cache_shape"), at.of("k_cache_shape"))
    if len(shape) != 4:
        at.of("k_cache_shape").refuse("[pages, kv heads, page size, head dim]", shape)
    pages = _SIZE.unpack(document.get("num_pages_in_cache"), at.of("num_pages_in_cache"))
    page_size = _PAGE_SIZE.unpack(document.get("page_size"), at.of("page_size"))
    if pages != shape[0]:
        at.of("num_pages_in_cache").refuse(f"{shape[0]}, as in k_cache_shape", pages)
    if page_size != shape[2]:
        at.of("page_size").refuse(f"{shape[2]}, as in k_cache_shape", page_size)
    return pages, page_size


def _kind_notes(kind: LayerKind, window: int | None, claimed: bool, outside: bool) -> tuple[Note, ...]:
    because = f"sliding_window is {window}"
    if outside and kind is LayerKind.SWA:
        because += ", and the table counts past this layer's own pool, so it was built for a larger one"
    note = f"layer kind taken as {kind.value}: {because}"
    if claimed == (kind is LayerKind.SWA):
        return ((Grade.DERIVED, note),)
    lie = f"is_swa_layer says {claimed}, but the fork read it from the same stale state as the bug: not believed"
    return ((Grade.DERIVED, note), (Grade.DERIVED, lie))


def _page_table_limits(read: AttentionRead) -> tuple[Note, ...]:
    notes = [
        (
            Grade.DERIVED,
            "this kind holds no index mapping and no full-space table: only bounds can be judged, "
            "wrong but in-range pages cannot be seen",
        )
    ]
    if read.phase != "decode":
        text = f"queries a row are not recorded for {read.phase!r}: taken as 1, so the live window may be too short"
        notes.append((Grade.GUESS, text))
    return tuple(notes)


def from_allocator(document: dict[str, Any]) -> Incident:
    """One Allocation of the SWA pool. Raises UnsafeInputError naming the malformed field."""
    at = At()
    slots_N = Ints(1).unpack(document["alloc_swa_indices"], at.of("alloc_swa_indices"))
    size = _SIZE.unpack(document["swa_pool_size"], at.of("swa_pool_size"))
    page_size = _PAGE_SIZE.unpack(document.get("page_size"), at.of("page_size"))
    if size % page_size:
        at.of("swa_pool_size").refuse(f"a multiple of page_size {page_size}", size)
    call = Text().unpack(document.get("ctx"), at.of("ctx"))
    if call not in ("alloc_extend", "alloc_decode"):
        at.of("ctx").refuse("'alloc_extend' or 'alloc_decode'", call)
    counted = _COUNT.unpack(document.get("oob_count"), at.of("oob_count"))
    pool = PoolView("swa", IndexSpace.SWA_PAGE, page_size, size // page_size + 1)
    notes: list[Note] = [
        (
            Grade.DERIVED,
            f"the fork pyc96/sglang counted {counted} out of bounds against {size}, but page 0 is the dummy and the "
            f"last legal slot is {size + page_size - 1}, a page more: what it reported is judged again here",
        )
    ]
    for name, found in (("swa_max_value_returned", slots_N.max), ("swa_min_value_returned", slots_N.min)):
        said = Int().unpack(document.get(name), at.of(name))
        if len(slots_N) and said != found():
            notes.append((Grade.MEASURED, f"{name} says {said}, the indices in the file say {found()}"))
    return Incident("fork-allocator", allocations=(Allocation(call, pool, slots_N),), pools=(pool,), notes=tuple(notes))
