"""Which worker each attention backend serves, learnt when it is built.

A backend keeps neither its runner nor whether that runner is a draft, so this is the only place to see it.
Also names pools for people: "target:SWAKVPool" rather than an address, which would differ from run to run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from g4diag.errors import G4DiagError, PatchRefused
from g4diag.guard import guard
from g4diag.hooks.install import Hook
from g4diag.model import IndexMapping, LayerKind, PoolSwap, PoolView, Windows
from g4diag.stack import backends
from g4diag.stack.backends.contract import Attention, hook
from g4diag.stack.probes.contract import Book
from g4diag.stack.probes.handed_out import HandedOut
from g4diag.stack.probes.pools import index_mapping, layer_pool, pool_views
from g4diag.stack.probes.request_rows import RequestRows
from g4diag.stack.probes.server_facts import flags_of, worker_of
from g4diag.stack.probes.windows import windows_of
from g4diag.stack.releases import current

logger = logging.getLogger("g4diag")

_BLIND = "no trap sees what its layers are handed"


class Backends:
    """Worker and pool names of live backends. sink: takes the PoolSwap of each finished constructor. books: what is
    written down for views of backends, hooked apart: `handed_out` and `request_rows`, of their own unless given.
    attentions: those that are watched, without asking which can be."""

    def __init__(
        self,
        sink: Callable[[PoolSwap], None],
        handed_out: HandedOut | None = None,
        request_rows: RequestRows | None = None,
        attentions: tuple[Attention, ...] | None = None,
    ) -> None:
        self._sink, self._given = sink, attentions
        self._described: dict[type, Attention | None] = {}
        self._worker: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._pool_owner: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._allocator: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._frozen: WeakSet[Any] = WeakSet()
        self.facts: dict[str, Any] = {}  # for a dump; what was built last, as a process has one server
        self._mapping: WeakKeyDictionary[Any, tuple[Any, Any, IndexMapping | None]] = WeakKeyDictionary()
        self._windows: WeakKeyDictionary[Any, Windows] = WeakKeyDictionary()
        self.handed_out, self.request_rows = handed_out or HandedOut(), request_rows or RequestRows()
        self.books: tuple[Book, ...] = (self.handed_out, self.request_rows)

    @cached_property
    def attentions(self) -> tuple[Attention, ...]:
        """The backends that can be watched in this process. Asking imports them."""
        return self._fit.watched

    @cached_property
    def unwatched(self) -> dict[str, PatchRefused]:
        """By name, those of another form than we know, and what was wanted."""
        return self._fit.refused

    @cached_property
    def _fit(self) -> backends.Fit:
        return backends.fit() if self._given is None else backends.Fit(self._given, {})

    def hooks(self) -> list[Hook]:
        """The constructor of every backend that is known and installed, and where a runner takes any backend."""
        hooks = [hook(attention.built, "after", partial(self._built, attention)) for attention in self.attentions]
        release = current()
        return [*hooks, release.hook("backend.taken", "after", self._taken)] if release.has("backend.taken") else hooks

    def attention(self, backend: Any) -> Attention:
        """What is known of this backend. G4DiagError for one that no file describes."""
        if (found := self.described(backend)) is None:
            raise G4DiagError(f"no file of ours describes {type(backend).__name__}")
        return found

    def described(self, backend: Any) -> Attention | None:
        """The same, None for one that no file describes. By the names of its class and of those it inherits from, its
        own first; asked at each kernel call, so looked up once a class."""
        kind = type(backend)
        if kind not in self._described:
            by_class = {attention.backend: attention for attention in self.attentions}
            names = [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]
            self._described[kind] = next((by_class[name] for name in names if name in by_class), None)
        return self._described[kind]

    def knows(self, backend: Any) -> bool:
        """Whether a file of ours describes it."""
        return self.described(backend) is not None

    def worker(self, backend: Any) -> str:
        """ "target" or "draft"; "target" for a backend that was built before the probe was armed."""
        return self._worker.get(backend, "target")

    def owner(self, pool: Any) -> str:
        """ "target" or "draft", whose runner brought this pool; "" if none did since the probe was armed."""
        return self._pool_owner.get(pool, "")

    def layer_pool(self, pool: Any, layer_id: int) -> tuple[PoolView, LayerKind | None]:
        """As `pools.layer_pool` has it, with the worker that brought this pool in its name."""
        return layer_pool(pool, layer_id, self.owner(pool))

    def label(self, pool: Any) -> str | None:
        """The pool's name for people, None for no pool."""
        if pool is None:
            return None
        return f"{self._pool_owner.get(pool, 'unknown')}:{type(pool).__name__}"

    def mapped_pool(self, backend: Any) -> Any | None:
        """The SWAKVPool whose mapping ties this backend's full and SWA ids: the one it reads, or its allocator's."""
        pool = backend.token_to_kv_pool
        if hasattr(pool, "full_to_swa_index_mapping"):
            return pool
        allocator = self._allocator.get(backend)
        shared = None if allocator is None else allocator.get_kvcache()
        return shared if hasattr(shared, "full_to_swa_index_mapping") else None

    def mapping(self, backend: Any, page_size: int) -> IndexMapping | None:
        """A copy of this backend's mapping; the same copy until somebody writes to it."""
        return self.mapping_of(self.mapped_pool(backend), page_size)

    def mapping_of(self, pool: Any, page_size: int) -> IndexMapping | None:
        """The same of a pool; None for one without a mapping."""
        tensor = getattr(pool, "full_to_swa_index_mapping", None)
        if tensor is None or tensor.is_inference():  # which counts no versions
            return index_mapping(pool, page_size)
        key = (tensor._version, page_size)
        known = self._mapping.get(pool)
        if known is None or known[0] is not tensor or known[1] != key:
            known = self._mapping[pool] = (tensor, key, index_mapping(pool, page_size))
        return known[2]

    def windows(self, layer: Any) -> Windows | None:
        """The model's own, of a sliding layer of a model whose backend was seen to be built."""
        try:
            return self._windows.get(layer)
        except TypeError:  # something in a layer's place that takes no weak reference
            return None

    def allocator_page_size(self, backend: Any) -> int | None:
        """Tokens a page, of the allocator that its runner was built with."""
        return getattr(self._allocator.get(backend), "page_size", None)

    def is_frozen(self, backend: Any) -> bool:
        """Whether it serves a frozen-KV draft."""
        return backend in self._frozen

    def pools(self) -> tuple[PoolView, ...]:
        """The pools of the first allocator seen, free lists included; none before a backend was built."""
        for allocator in list(self._allocator.values()):
            pool = allocator.get_kvcache()
            return pool_views(pool, allocator, self.owner(pool))
        return ()

    def _taken(self, result: Any, runner: Any, backend: Any, /, *args: Any, **kwargs: Any) -> None:
        """Say once of a backend that nobody watches. result: the backend, in a wrapper for some models."""
        name = type(backend).__name__
        if self.knows(backend) or name in self.facts.get("not_watched", ()):
            return
        self.facts["not_watched"] = [*self.facts.get("not_watched", ()), name]
        ours = {each.name for each in backends.known() if each.class_name == name}
        why = next((str(self.unwatched[each]) for each in ours & set(self.unwatched)), "g4diag has no file for it")
        worker = "draft" if runner.is_draft_worker else "target"
        logger.warning("g4diag attention backend NOT WATCHED: %s of the %s: %s; %s", name, worker, why, _BLIND)

    def _built(
        self, attention: Attention, result: Any, backend: Any, model_runner: Any, /, *args: Any, **kwargs: Any
    ) -> None:  # by position: constructors have keywords of these names
        if self.attention(backend) is not attention:  # the constructor of a class that it inherits from
            return
        worker = "draft" if model_runner.is_draft_worker else "target"
        self._worker[backend] = worker
        self._allocator[backend] = model_runner.token_to_kv_pool_allocator
        pool = model_runner.token_to_kv_pool
        self._pool_owner.setdefault(pool, worker)
        is_frozen = bool(model_runner.spec_algorithm.is_frozen_kv_mtp()) and model_runner.is_draft_worker
        if is_frozen:
            self._frozen.add(backend)
        with guard("reading the windows of a model's layers"):
            self._windows.update(windows_of(model_runner))
        label = str(self.label(pool))
        if worker == "target" or "flags" not in self.facts:  # a draft may have been given a copy with its own
            self.facts["flags"] = flags_of(model_runner)
        self.facts[worker] = worker_of(model_runner, type(backend).__name__, label, is_frozen)
        self._sink(
            PoolSwap(
                site="constructor",
                moment="enter",
                backend=type(backend).__name__,
                read_pool=label,
                read_pool_is_swa=current().read.is_swa_pool(pool),
                swa_state=self.label(attention.swa_state(backend)),
                frozen_kv=is_frozen,
            )
        )
