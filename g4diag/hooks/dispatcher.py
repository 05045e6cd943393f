"""One target under our dispatcher: spliced in through sglang's registry, verified, put back from a snapshot.

The registry's code does the wrapping, on tables of our own. Its shared tables apply a target once and drop every
later hook on it in silence: an entry of ours there would cost other plugins theirs, and theirs would cost us ours.
A target that another plugin has already wrapped is wrapped again, outside; one that another plugin is about to
REPLACE is refused.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from g4diag.errors import CannotRunError, PatchRefused
from g4diag.hooks.aliases import aliases_of
from g4diag.hooks.compose import BINDERS, Entry, Hook, compose
from g4diag.hooks.targets import (
    Function,
    Target,
    forwarder,
    is_context_manager_function,
    resolve,
    unwrapped,
)

logger = logging.getLogger(__name__)

_MARK = "__g4diag_dispatcher__"
_PROPAGATE = "_propagate_patch"  # of the registry's module


class Dispatcher:
    """One target under our dispatcher. Lives on as a pass-through where somebody holds on to its wrapper."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.original: Function = target.function
        self.entries: tuple[Entry, ...] = ()
        self.call: Function = self.original
        self.installed: Any = None  # raw attribute the registry made; its function is `wrapper`
        self.wrapper: Any = None

    def dispatch(self, original: Function, /, *args: Any, **kwargs: Any) -> Any:
        """The AROUND hook given to the registry; one attribute read, so a swap of the chain is atomic."""
        return self.call(*args, **kwargs)

    def add(self, entry: Entry) -> None:
        """Put a hook on, wrapping the target first if nobody had. PatchRefused leaves everything as it was."""
        if self.wrapper is None:
            self._splice()
        self._recompose((*self.entries, entry))

    def remove(self, entry: Entry) -> None:
        """Take a hook off; with the last one the target becomes what it was."""
        self._recompose(tuple(other for other in self.entries if other is not entry))
        if not self.entries:
            self._restore()

    def in_place(self) -> bool:
        """Whether the target's attribute is still the one we put there."""
        return self.wrapper is not None and self.target.current() is self.installed

    def problem(self, path: str) -> str | None:
        """Why calls through `path` no longer reach us, None if they do."""
        try:
            found = resolve(path).function
        except PatchRefused as refusal:
            return str(refusal)
        return None if found is self.wrapper else f"{path}: wanted our wrapper, found {found!r} put there after it"

    def _recompose(self, entries: tuple[Entry, ...]) -> None:
        self.call = compose(self.original, entries)
        self.entries = entries

    def _splice(self) -> None:
        target = self.target
        if not target.own:
            self._place_forwarder()
        try:
            applied = _apply_through_registry(target.path, self.dispatch, self.original)
            installed = target.current()
            kept_kind = type(installed) is type(target.raw) or not isinstance(target.raw, staticmethod | classmethod)
            if not applied or not kept_kind or not self._is_wrapper(unwrapped(installed)):
                raise PatchRefused(target.path, "a wrapper in its place", f"{installed!r}; sglang's log says why")
            setattr(unwrapped(installed), _MARK, self)
            self.installed, self.wrapper = installed, unwrapped(installed)
            if self.installed is not self.wrapper:
                # The registry gives aliases of a static or class method the bare descriptor.
                _rebind(self.installed, self.wrapper)
            if isinstance(target.holder, ModuleType):
                # The registry skips the target's own module, so `g = f` beside it would go on unhooked.
                for name in [name for name, bound in vars(target.holder).items() if bound is self.original]:
                    setattr(target.holder, name, self.wrapper)
        except BaseException:
            half_done = target.current()
            self._put_back()
            if self._is_wrapper(unwrapped(half_done)):
                _rebind(half_done, target.function)
                _rebind(unwrapped(half_done), target.function)
            raise

    def _is_wrapper(self, function: Any) -> bool:
        return getattr(function, "__wrapped__", None) is self.original and function is not self.original

    def _place_forwarder(self) -> None:
        raw = forwarder(self.target)
        try:
            setattr(self.target.holder, self.target.name, raw)
        except (AttributeError, TypeError) as error:
            raise PatchRefused(self.target.path, "a class that can be changed", str(error)) from error
        self.original = self.call = unwrapped(raw)

    def _restore(self) -> None:
        if self.in_place():
            self._put_back()
        else:
            path = self.target.path
            logger.warning("g4diag: %s was changed after us and is left as it is; our wrapper passes through", path)
        # By identity now, not from a list made before: modules imported meanwhile took our wrapper too.
        _rebind(self.wrapper, _settled(self.target.function))

    def _put_back(self) -> None:
        target = self.target
        if target.own:
            if target.current() is not target.raw:
                setattr(target.holder, target.name, _settled(target.raw))
        elif target.name in vars(target.holder):
            delattr(target.holder, target.name)


def dispatcher_for(hook: Hook) -> Dispatcher:
    """The dispatcher already at this target, reached by whatever alias, or a new one."""
    if hook.kind not in BINDERS:
        raise PatchRefused(hook.target, f"one of {', '.join(BINDERS)}", repr(hook.kind))
    target = resolve(hook.target)
    _refuse_other_parameters(hook, target)
    found = getattr(target.function, _MARK, None)
    # functools.wraps copies the mark onto other people's wrappers of ours: only the very wrapper counts. A class
    # shares a dispatcher with itself alone, or a hook on a subclass would reach its siblings.
    if isinstance(found, Dispatcher) and found.wrapper is target.function and found.in_place():
        same_place = target.own and found.target.holder is target.holder
        if same_place or (isinstance(target.holder, ModuleType) and isinstance(found.target.holder, ModuleType)):
            _refuse_bare_generator(hook, found.original)
            return found
    _refuse_pending_replacement(hook.target)
    _refuse_bare_generator(hook, target.function)
    return Dispatcher(target)


def refusal(hook: Hook) -> PatchRefused | None:
    """Why this hook would not go on, None if it would. Nothing is changed."""
    try:
        dispatcher_for(hook)
    except PatchRefused as refused:
        return refused
    return None


def _refuse_other_parameters(hook: Hook, target: Target) -> None:
    if not hook.parameters:
        return
    wanted = ", ".join(hook.parameters)
    try:
        names = list(inspect.signature(target.function).parameters)
    except (TypeError, ValueError) as error:
        raise PatchRefused(hook.target, f"parameters {wanted}", f"none that can be read: {error}") from error
    if isinstance(target.holder, type) and not isinstance(target.raw, staticmethod):
        names = names[1:]
    if tuple(names[: len(hook.parameters)]) != hook.parameters:
        raise PatchRefused(hook.target, f"parameters {wanted}", ", ".join(names) or "none")


def _refuse_bare_generator(hook: Hook, original: Function) -> None:
    makes_the_result = hook.kind in ("around", "replace")
    if makes_the_result and inspect.isgeneratorfunction(hook.function) and is_context_manager_function(original):
        raise PatchRefused(hook.target, "a hook that returns a context manager", "a generator function")


def _rebind(value: Any, other: Function) -> None:
    for module, name in aliases_of(value):
        setattr(module, name, other)


def _settled(raw: Any) -> Any:
    """`raw`, or what lies under it where `raw` is itself a wrapper of ours that nobody uses any more."""
    dispatcher = getattr(raw, _MARK, None)
    while isinstance(dispatcher, Dispatcher) and dispatcher.wrapper is raw and not dispatcher.entries:
        raw = dispatcher.original
        dispatcher = getattr(raw, _MARK, None)
    return raw


@contextmanager
def _aliases_bound_by_our_index(original: Function) -> Iterator[None]:
    """The registry binds a function's aliases anew by going through every name of every module, for each target: 70
    times in an arming of all traps. For the body our index tells it where they are."""
    registry = sys.modules[_registry()[0].__module__]
    upstreams = getattr(registry, _PROPAGATE, None)
    if upstreams is None:
        aliases_of(original)  # the registry is about to bind these anew
        yield
        return
    setattr(registry, _PROPAGATE, _propagate)
    try:
        yield
    finally:
        setattr(registry, _PROPAGATE, upstreams)


def _propagate(original: Any, wrapped: Any, source: Any) -> int:
    """What the registry's function of that name does; how many names it bound anew."""
    bound = 0
    for module, name in aliases_of(original):
        if module is not source:
            with suppress(AttributeError, TypeError):
                setattr(module, name, wrapped)
                bound += 1
    return bound


def _registry() -> tuple[Any, Any, Any]:
    try:
        from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
    except ImportError as error:
        raise CannotRunError(f"sglang's hook registry: wanted sglang >= 0.5.12, found {error}") from error
    return HookRegistry, HookSource, HookType


def _apply_through_registry(path: str, dispatch: Function, original: Function) -> bool:
    """Wrap one target with sglang's own code on fresh tables; its failures are logged there and come back False."""
    registry, source, kinds = _registry()
    tables: Any = type("G4DiagHooks", (registry,), {"_hooks": defaultdict(list), "_patched": set()})
    tables.register(path, dispatch, kinds.AROUND, source=source("g4diag", "g4diag"))
    with _aliases_bound_by_our_index(original):
        tables.apply_hooks()
    return path in tables._patched


def _refuse_pending_replacement(path: str) -> None:
    """A REPLACE that another plugin registered and sglang has not applied yet would throw our wrapper away."""
    registry, _, kinds = _registry()
    names = path.split(".")
    for prefix in (".".join(names[:end]) for end in range(2, len(names) + 1)):
        pending = registry._hooks.get(prefix, ()) if prefix not in registry._patched else ()
        if sources := [source for kind, _, source in pending if kind == kinds.REPLACE]:
            who = getattr(sources[-1], "plugin_name", "an unknown plugin")
            raise PatchRefused(path, "no replacement pending", f"{who} is about to replace {prefix}")
