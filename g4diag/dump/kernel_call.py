"""One logged call of an attention kernel, from FlashInfer's or sglang's logger, as what a trap can judge.

Which argument is the table, the lengths, the cache and the window is known for the calls below; all else is left
alone. The pool is what the cache's shape says. Which layer it was is in no such file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from g4diag.dump.codecs import INT32, MAX_COLUMNS
from g4diag.dump.schema import MAX_COUNT, MAX_PAGE_SIZE
from g4diag.dump.tensors import Tensor
from g4diag.errors import UnsafeInputError
from g4diag.model import AttentionRead, Grade, IndexSpace, IntArray, LayerKind, PoolView

UNKNOWN_STEP = UNKNOWN_LAYER = -1
DONE, DIED = "completed", "inputs_saved"
Note = tuple[Grade, str]


@dataclass(frozen=True)
class Call:
    """One call as its logger wrote it. folder: its directory's name. time: as the logger's clock said, taken as UTC;
    None if it said none. status: "completed", "inputs_saved" (no word after it), "exception" and the like. graph:
    captured in a CUDA graph. values: plain arguments, and shapes: of tensors, both by the logger's key: "arg_3" or
    "kwarg_window_left"."""

    folder: str
    function: str
    pid: int
    number: int
    time: float | None = None
    status: str = ""
    graph: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kernel:
    """Where an attention kernel takes what from: names of its arguments, and the place of each when positional."""

    places: Mapping[str, int]
    phase: str
    cache: str
    table: str
    lens: str
    window: str
    queries: str
    cumulative: str
    layout: str


_KERNELS = {
    "trtllm_batch_decode_with_kv_cache": _Kernel(
        {"query": 0, "kv_cache": 1, "block_tables": 3, "seq_lens": 4, "window_left": 8, "kv_layout": 14}
        | {"q_len_per_req": 17, "cum_seq_lens_q": 21},
        *("decode", "kv_cache", "block_tables", "seq_lens", "window_left", "q_len_per_req", "cum_seq_lens_q", "HND"),
    ),
    "trtllm_batch_context_with_kv_cache": _Kernel(
        {"query": 0, "kv_cache": 1, "block_tables": 3, "seq_lens": 4, "max_q_len": 5, "cum_seq_lens_q": 10}
        | {"window_left": 12, "kv_layout": 17},
        *("extend", "kv_cache", "block_tables", "seq_lens", "window_left", "max_q_len", "cum_seq_lens_q", "HND"),
    ),
    "flash_attn_with_kvcache": _Kernel(
        {"k_cache": 1, "cache_seqlens": 8, "page_table": 11, "cu_seqlens_q": 12, "max_seqlen_q": 14, "window_size": 21},
        *("", "k_cache", "page_table", "cache_seqlens", "window_size", "max_seqlen_q", "cu_seqlens_q", "NHD"),
    ),
}


def is_attention(call: Call) -> bool:
    """Whether this is a kernel whose table we know how to read."""
    return _name(call) in _KERNELS


def attention_read(call: Call, tensors: Mapping[str, Tensor]) -> tuple[AttentionRead | None, tuple[Note, ...]]:
    """What the kernel was handed, and how it was told; None, and why, where the call cannot be judged.

    tensors: of the call's own file, by the logger's keys. Raises UnsafeInputError where the two contradict."""
    kernel = _KERNELS[_name(call)]
    table, lens = _tensor(call, kernel, kernel.table, tensors), _tensor(call, kernel, kernel.lens, tensors)
    shape = _cache_shape(call, kernel, tensors)
    if table is None or lens is None or shape is None:
        missing = [
            name for name, found in ((kernel.table, table), (kernel.lens, lens), (kernel.cache, shape)) if not found
        ]
        return None, ((Grade.MEASURED, f"{call.folder}: nothing to judge: no {', '.join(missing)} in it"),)
    if len(table.shape) != 2 or lens.shape != table.shape[:1] or table.shape[1] > MAX_COLUMNS:
        said = f"{kernel.table} of shape {table.shape}, {kernel.lens} of shape {lens.shape}"
        return None, ((Grade.MEASURED, f"{call.folder}: nothing to judge: wanted [B, P] and [B], found {said}"),)
    pages, page_size = _geometry(call, kernel, shape)
    window = _window(call, kernel)
    q_len, notes = _queries(call, kernel, tensors, table.shape[0])
    kind = LayerKind.SWA if window >= 0 else LayerKind.FULL
    space = IndexSpace.SWA_PAGE if window >= 0 else IndexSpace.FULL_PAGE
    read = AttentionRead(
        step=UNKNOWN_STEP,
        worker="",
        phase=kernel.phase,
        path="graph" if call.graph else "eager",
        backend=_name(call),
        layer_id=UNKNOWN_LAYER,
        layer_kind=kind,
        window_left=window,
        pool=PoolView(kind.value, space, page_size, pages),
        table_space=None,
        page_table_BP=_int32(table.read(), kernel.table),
        seq_lens_B=_int32(lens.read(), kernel.lens),
        q_len=q_len,
    )
    return read, notes


def _name(call: Call) -> str:
    return call.function.rpartition(".")[2]


def _keys(kernel: _Kernel, name: str) -> list[str]:
    """The logger's keys of an argument; of a pair the first, which FlashInfer writes with two underscores."""
    places = [f"arg_{kernel.places[name]}"] if name in kernel.places else []
    return [key + tail for key in (f"kwarg_{name}", *places) for tail in ("", "__0", "_0")]


def _tensor(call: Call, kernel: _Kernel, name: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
    for key in _keys(kernel, name):
        if key in tensors:
            found = tensors[key]
            if call.shapes.get(key, found.shape) != found.shape:
                wanted = f"{call.shapes[key]}, as its metadata says"
                raise UnsafeInputError(f"{call.folder}: {key}: wanted shape {wanted}, found {found.shape}")
            return found
    return None


def _cache_shape(call: Call, kernel: _Kernel, tensors: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    found = _tensor(call, kernel, kernel.cache, tensors)
    said = (call.shapes[key] for key in _keys(kernel, kernel.cache) if key in call.shapes)
    return found.shape if found is not None else next(said, None)


def _value(call: Call, kernel: _Kernel, name: str) -> Any:
    return next((call.values[key] for key in _keys(kernel, name) if key in call.values), None)


def _geometry(call: Call, kernel: _Kernel, shape: tuple[int, ...]) -> tuple[int, int]:
    """(pages, tokens a page) of a cache [pages, (1 or 2,) heads, page, dim], or with page before heads for NHD."""
    layout = _value(call, kernel, "kv_layout") or kernel.layout
    if layout not in ("HND", "NHD") or len(shape) not in (4, 5):
        raise UnsafeInputError(
            f"{call.folder}: {kernel.cache}: wanted 4 or 5 sizes, HND or NHD, found {shape}, {layout!r:.20}"
        )
    pages, page_size = shape[0], shape[-2 if layout == "HND" else -3]
    if not 1 <= pages <= MAX_COUNT or not 1 <= page_size <= MAX_PAGE_SIZE:
        wanted = f"pages of 1 .. {MAX_PAGE_SIZE} tokens"
        raise UnsafeInputError(f"{call.folder}: {kernel.cache}: wanted {wanted}, found {pages} of {page_size}")
    return pages, page_size


def _window(call: Call, kernel: _Kernel) -> int:
    value = _value(call, kernel, kernel.window)
    if value is None:
        return -1
    if type(value) is not int or not -1 <= value <= MAX_COUNT:
        raise UnsafeInputError(f"{call.folder}: {kernel.window}: wanted an integer of -1 or more, found {value!r:.40}")
    return value


def _queries(call: Call, kernel: _Kernel, tensors: Mapping[str, Tensor], rows: int) -> tuple[int, tuple[Note, ...]]:
    """Queries a row, and a note where the rows differ: then the fewest, so that no stale entry is blamed."""
    ends = _tensor(call, kernel, kernel.cumulative, tensors)
    if ends is not None and ends.shape == (rows + 1,) and rows:
        lengths = np.diff(ends.read().astype(np.int64))
        fewest, most = max(int(lengths.min()), 1), int(lengths.max())
        note = f"{call.folder}: rows ask {fewest} to {most} queries; the window is judged for {fewest}"
        return min(fewest, MAX_COUNT), ((Grade.DERIVED, note),) if fewest != most else ()
    said = _value(call, kernel, kernel.queries)
    return (said, ()) if type(said) is int and 1 <= said <= MAX_COUNT else (1, ())


def _int32(values: IntArray, name: str) -> IntArray:
    if values.size and (int(values.min()) < INT32.min or int(values.max()) > INT32.max):
        raise UnsafeInputError(f"{name}: wanted integers of 32 bits, found {int(values.min())} .. {int(values.max())}")
    return values.astype(np.int32)
