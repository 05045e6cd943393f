"""What every attention backend's file declares: one upper-case ATTENTION. It says which class it is, where a layer is
handed its page table, and how to read what was handed. Probes and the device check ask it; traps never learn which
backend it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from g4diag.hooks.anchors import Anchor, has_module, pin
from g4diag.hooks.install import Hook, Kind
from g4diag.model import IndexSpace
from g4diag.stack.releases.contract import Point


def _nothing_told() -> None:
    return None


@dataclass(frozen=True)
class Handed:
    """What one layer was handed, all still on the device.

    table_BP: int32[B, P] page ids. lengths_B: int32 or int64[B] keys a row. rows_B: int64[B], rows of req_to_token;
    padding rows point at row 0 and are last. space: that the backend built this table in, None if its identity does not
    tell.
    is_copy: a changed copy of the backend's own table. is_graph: it is, or came from, a CUDA graph's static buffers.
    queries: of each row; of rows that differ, the least. by_slot: ids are slots. indptr_B1: the table is flat: int[N],
    of which row b has those from indptr_B1[b] to indptr_B1[b + 1]. is_clipped: a row's entries stand for its last keys,
    as many as there are; else for all of them. is_bound_only: which entries belong there cannot be told on the device.
    told_BP: () -> int64 host array [B, P], the full ids that belong there by the batch itself, where no row of
    req_to_token has them in that order; None where it does not tell."""

    table_BP: Any
    lengths_B: Any
    rows_B: Any
    space: IndexSpace | None
    is_copy: bool
    is_graph: bool
    queries: int
    by_slot: bool = False
    indptr_B1: Any = None
    is_clipped: bool = False
    is_bound_only: bool = False
    told_BP: Callable[[], Any] = _nothing_told

    @property
    def path(self) -> str:
        """ "graph" or "eager"."""
        return "graph" if self.is_graph else "eager"


@dataclass(frozen=True)
class Write:
    """A K/V write of the backend's own, which goes round the pools. point: the call. called: source of the backend that
    occurs where this release makes that call. slots: the call's arguments, self included -> the tensor of slots it was
    handed, None if this call writes none."""

    point: Point
    called: Anchor
    slots: Callable[..., Any]


class Rail(NamedTuple):
    """Flat indices as a kernel takes them. indptr_B1: int32[B + 1]. indices_N: int32 or int64[N]."""

    indptr_B1: Any
    indices_N: Any


def as_called(table: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """For a `KernelCall` whose table is none of its arguments."""
    return args, kwargs


def _nothing_placed(table: Any, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
    return nullcontext()


def _has_owner(path: str) -> bool:
    """Whether the module of this function is installed, or the class of this method."""
    owner = path.rpartition(".")[0]
    module, _, name = owner.rpartition(".")
    if has_module(owner) or not has_module(module):
        return has_module(owner)
    try:
        return isinstance(getattr(import_module(module), name, None), type)
    except Exception:  # whatever its libraries say about a machine they were not made for
        return False


@dataclass(frozen=True)
class KernelCall:
    """The call in which a forward hands a kernel its table. point: the function called; its module may be that of some
    releases only. attribute: where the backend keeps that kernel as an attribute of itself and calls it there; point
    then pins its parameters alone. table: the call's arguments -> the table. handing: (what is handed on, args, kwargs)
    -> the arguments with that in place of theirs. placing: (table, the call's arguments) -> puts the table where the
    call looks for it, if that is no argument, and on leaving back what was there. called: source of the backend that
    occurs where this release calls it so, None where every release does."""

    table: Callable[..., Any]
    handing: Callable[[Any, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    point: Point | None = None
    attribute: str = ""
    placing: Callable[..., AbstractContextManager[Any]] = _nothing_placed
    called: Anchor | None = None

    def is_here(self) -> bool:
        """Whether the installed release has it."""
        if self.called is not None and not pin(self.called).count:
            return False
        return self.point is None or _has_owner(self.point.path)


@dataclass(frozen=True)
class Kernel:
    """A kernel that takes a query's address and no strides. point: its call. query: the call's arguments -> the query,
    [rows, heads, head dim]. applies: backend -> whether its calls of it take that path."""

    point: Point
    query: Callable[..., Any]
    applies: Callable[[Any], bool]


def _forward_metadata(backend: Any) -> Any:
    return backend.forward_metadata


def _always(module: Any) -> bool:
    return True


@dataclass(frozen=True)
class Attention:
    """One attention backend. name: as sglang's flag has it. backend: dotted path of its class.

    built: its constructor, handed the model runner first. table: the method that hands a layer its table, called with
    (layer, forward_batch); calls: the kernels that its forwards call with one, where no method does, or with another.
    forwards: its methods that run a layer, called with (q, k, v, layer, forward_batch).
    handed: (backend, layer, forward_batch, the table) -> Handed, None for a table of a kind that is not judged.
    metadata: backend -> the object in which it keeps what it planned last, new for each plan outside of graphs.
    metadata_is_graph: backend -> whether that belongs to a CUDA graph. swa_state: backend -> the SWA pool it takes
    itself to read, None for none. graph_tables: backend -> whether its graph buffers hold SWA tables, None if it has
    no graph buffers. keys_B: (backend, forward_batch, whether it serves a frozen-KV draft) -> int[B], keys a row
    by the batch's own lengths, None where it does not tell. writes: its own K/V writes. kernels: those that
    want packed queries. can_run: backend's module -> whether a process that imported it so can have one at work.
    flags: values of sglang's flag that choose it, where its name is none."""

    name: str
    backend: str
    built: Point
    forwards: tuple[Point, ...]
    handed: Callable[[Any, Any, Any, Any], Handed | None]
    metadata_is_graph: Callable[[Any], bool]
    swa_state: Callable[[Any], Any]
    graph_tables: Callable[[Any], bool | None]
    keys_B: Callable[[Any, Any, bool], Any]
    metadata: Callable[[Any], Any] = _forward_metadata
    table: Point | None = None
    calls: tuple[KernelCall, ...] = ()
    writes: tuple[Write, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    can_run: Callable[[Any], bool] = _always
    flags: tuple[str, ...] = ()

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """Values of sglang's flag that choose it."""
        return self.flags or (self.name,)

    def writes_here(self) -> tuple[Write, ...]:
        """Those that the installed release makes, by its source."""
        return tuple(write for write in self.writes if pin(write.called).count)

    def calls_here(self) -> tuple[KernelCall, ...]:
        """Those that the installed release has; all of them if it is handed tables in no way that we know, so that
        hooking says what it lacks."""
        here = tuple(call for call in self.calls if call.is_here())
        return here if here or self.table is not None else self.calls

    @property
    def class_name(self) -> str:
        """The class without its module."""
        return self.backend.rpartition(".")[2]


def rows_differ(spec_info: Any) -> bool:
    """Whether the rows of a verify have more or fewer drafts each, which only its layout tells."""
    return getattr(spec_info, "ragged_verify_layout", None) is not None


def shortest_query(forward_batch: Any, longest: int) -> int:
    """Queries of the row that has fewest: extend rows differ in length, and the shortest judges too few old entries
    rather than too many. longest: of a row, by the backend's metadata."""
    if forward_batch.forward_mode.is_decode_or_idle():
        return 1
    lens = getattr(forward_batch, "extend_seq_lens_cpu", None)
    if lens is not None and not forward_batch.forward_mode.is_target_verify():
        return int(min(int(n) for n in lens))
    return longest


def keyword(point: Point, name: str) -> KernelCall:
    """A kernel that is handed its table under that keyword."""
    return KernelCall(
        table=lambda *args, **kwargs: kwargs.get(name),
        handing=lambda table, args, kwargs: (args, kwargs | {name: table}),
        point=point,
    )


def hook(point: Point, kind: Kind, function: Callable[..., Any]) -> Hook:
    """A probe's hook at a place of a backend, with its signature pinned."""
    return Hook(point.path, kind, function, observes=True, parameters=point.parameters)
