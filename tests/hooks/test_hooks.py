"""Hooks go on all or nothing, are seen by every caller, and leave every target as it was."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("sglang")

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from g4diag.errors import PatchRefused
from g4diag.guard import set_raising
from g4diag.hooks import dispatcher
from g4diag.hooks.install import Hook, install
from tests.synthetic import BASE, USER, differences, module, raw_snapshot, tree

METHOD, PLAIN = f"{BASE}.Base.method", f"{BASE}.plain"


@pytest.fixture
def syn() -> Iterator[SimpleNamespace]:
    with tree() as (base, user):
        before = raw_snapshot(base, user)
        yield SimpleNamespace(base=base, user=user, changed=lambda: differences(before, raw_snapshot(base, user)))


@pytest.fixture
def registry() -> Iterator[type[HookRegistry]]:
    """The shared tables, emptied, and put back."""
    hooks, patched = dict(HookRegistry._hooks), set(HookRegistry._patched)
    HookRegistry.reset()
    yield HookRegistry
    HookRegistry.reset()
    HookRegistry._hooks.update(hooks)
    HookRegistry._patched.update(patched)


def tag(name: str) -> Callable[..., Any]:
    return lambda original, *args, **kwargs: (name, original(*args, **kwargs))


def around(target: str, name: str = "hooked") -> Hook:
    return Hook(target, "around", tag(name))


@pytest.mark.parametrize("by_index", [True, False])
def test_the_registry_binds_aliases_by_our_index_and_by_itself_where_it_has_no_such_step(
    syn: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, by_index: bool
) -> None:
    from sglang.srt.plugins import hook_registry

    upstreams = hook_registry._propagate_patch
    asked = Mock(side_effect=upstreams)
    monkeypatch.setattr(hook_registry, "_propagate_patch", asked)
    if not by_index:
        monkeypatch.setattr(dispatcher, "_PROPAGATE", "of_another_release")
    with install("t", [around(PLAIN, "1")]):
        assert asked.called is not by_index
        assert hook_registry._propagate_patch is asked
        assert syn.user.renamed is syn.user.plain is syn.base.plain


def test_every_alias_sees_the_hook_and_loses_it(syn: SimpleNamespace) -> None:
    with install("test", [around(PLAIN)]):
        for function in (syn.base.plain, syn.user.plain, syn.user.renamed):
            assert function(1, a=2) == ("hooked", ("plain", (1,), {"a": 2}))
    assert not syn.changed() and syn.user.renamed(1) == ("plain", (1,), {})


@pytest.mark.parametrize("name", ["original", "self", "target", "fn", "cls"])
def test_no_keyword_argument_is_taken_from_the_original(syn: SimpleNamespace, name: str) -> None:
    with install("test", [Hook(PLAIN, "before", lambda *args, **kwargs: None)]):
        assert syn.base.plain(**{name: 1}) == ("plain", (), {name: 1})


def test_descriptors_and_inheritance_are_kept(syn: SimpleNamespace) -> None:
    names = ("method", "static", "klass")
    with install("test", [around(f"{BASE}.Child.{name}") for name in names]):
        child = syn.base.Child()
        assert child.method(1) == ("hooked", ("method", (1,), {}))
        assert child.static(1) == syn.base.Child.static(1) == ("hooked", ("static", (1,), {}))
        assert child.klass(1) == syn.base.Child.klass(1) == ("hooked", ("Child", (1,), {}))
        assert syn.base.Base().method(1) == ("method", (1,), {}), "a hook on a subclass stays there"
        assert isinstance(vars(syn.base.Child)["static"], staticmethod)
        assert isinstance(vars(syn.base.Child)["klass"], classmethod)
    assert not syn.changed()
    assert not set(names) & set(vars(syn.base.Child))


def test_an_inherited_method_is_looked_up_at_each_call(syn: SimpleNamespace) -> None:
    with install("child", [around(f"{BASE}.Child.method", "child")]), install("base", [around(METHOD, "base")]):
        assert syn.base.Child().method() == ("child", ("base", ("method", (), {})))
        # Child.method must not hide what a diamond puts between Child and Base.
        assert syn.base.Diamond().method() == ("child", ("mixin", ("base", ("method", (), {}))))


def test_constructors_inherited_or_own_can_be_hooked(syn: SimpleNamespace) -> None:
    seen: list[str] = []
    observer = Hook(f"{BASE}.Child.__init__", "before", lambda self: seen.append(type(self).__name__))
    with install("test", [observer]):
        assert syn.base.Child().built and syn.base.Base().built
    assert seen == ["Child"] and not syn.changed()


def test_kinds_nest_and_replacements_are_innermost(syn: SimpleNamespace) -> None:
    hooks = [
        around(PLAIN, "outer"),
        Hook(PLAIN, "after", lambda result, *args: ("after", result)),
        Hook(PLAIN, "before", lambda *args: ((*args, "added"), {})),
        Hook(PLAIN, "replace", lambda *args: ("replaced", args)),
    ]
    with install("test", hooks):
        assert syn.base.plain(1) == ("after", ("outer", ("replaced", (1, "added"))))


def test_the_original_is_called_once_with_the_very_arguments(syn: SimpleNamespace) -> None:
    thing = object()
    with install("a", [around(METHOD), Hook(METHOD, "after", lambda *_, **__: None)]), install("b", [around(METHOD)]):
        _, (_, (_, args, kwargs)) = syn.base.Base().method(thing, key=thing)
    assert args[0] is thing and kwargs["key"] is thing and syn.base.calls == ["method"]


def test_the_originals_exception_is_its_own(syn: SimpleNamespace) -> None:
    target, after = f"{BASE}.failing", []
    with install("test", [around(target), Hook(target, "after", after.append)]), pytest.raises(KeyError) as caught:
        syn.base.failing()
    assert caught.value.args == ("the original's own",) and caught.value.__cause__ is None and not after


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_failing_observer_does_not_hurt_the_server(syn: SimpleNamespace, kind: Any) -> None:
    set_raising(False)
    with install("test", [Hook(PLAIN, kind, lambda *args: 1 / 0)]):
        assert syn.base.plain(1) == ("plain", (1,), {})
    assert syn.base.calls == ["plain"]


def test_around_a_context_manager_is_a_context_manager(syn: SimpleNamespace) -> None:
    @contextmanager
    def doubled(original: Callable[..., Any], value: int) -> Iterator[int]:
        with original(value) as inner:
            yield 2 * inner

    with install("test", [Hook(f"{BASE}.manager", "around", doubled)]):
        with syn.user.manager(21) as value:
            assert value == 42
        with pytest.raises(ZeroDivisionError), syn.user.manager(1):
            raise ZeroDivisionError
    assert not syn.changed()


def test_owners_leave_in_any_order(syn: SimpleNamespace) -> None:
    for seed in range(6):
        owners = [install(str(n), [around(METHOD, str(n)), around(PLAIN, str(n))]) for n in range(4)]
        random.Random(seed).shuffle(owners)
        for left in range(3, -1, -1):
            owners.pop().undo()
            assert str(syn.base.Base().method()).count("'0'") <= 1
            assert str(syn.base.plain()).count("(") - str(("plain", (), {})).count("(") == left
        assert not syn.changed()


def test_undo_is_idempotent_and_harms_no_other_owner(syn: SimpleNamespace) -> None:
    first, second = install("first", [around(PLAIN, "1")]), install("second", [around(PLAIN, "2")])
    first.undo()
    first.undo()
    assert not first.active and second.active and syn.user.plain() == ("2", ("plain", (), {}))
    second.undo()
    assert not syn.changed()


def test_aliases_taken_while_hooked_are_restored_too(syn: SimpleNamespace) -> None:
    with install("test", [around(PLAIN)]):
        late = module("g4synthetic.late", f"from {BASE} import plain as taken")
        assert late.taken() == ("hooked", ("plain", (), {}))
    assert late.taken is syn.base.plain and not syn.changed()


def test_an_alias_of_a_static_method_is_a_function_meanwhile(syn: SimpleNamespace) -> None:
    with install("test", [around(f"{BASE}.Base.static")]):
        assert inspect.isfunction(syn.user.static_alias)
        assert syn.user.static_alias(1) == ("hooked", ("static", (1,), {}))
    assert not syn.changed()


def test_an_alias_as_target_joins_the_original(syn: SimpleNamespace) -> None:
    first, second = install("alias", [around(f"{USER}.renamed", "1")]), install("home", [around(PLAIN, "2")])
    assert syn.base.plain() == syn.user.renamed() == ("2", ("1", ("plain", (), {})))
    first.undo()
    assert syn.base.plain() == syn.user.plain() == ("2", ("plain", (), {}))
    second.undo()
    assert not syn.changed()


UNFIT = [
    (f"{BASE}.Base.prop", "property"),
    (f"{BASE}.kernel", "triton"),
    (f"{BASE}.Base", "a class"),
    (f"{BASE}.coroutine", "coroutine"),
    (f"{BASE}.cached", "lru_cache"),
    (f"{BASE}.calls", "list"),
    (f"{BASE}.missing", "nothing of that name"),
    (f"{BASE}.Base.missing", "nothing of that name"),
    ("g4synthetic.nowhere.f", "Error"),
    ("plain", "Error"),
    ("builtins.dict.keys", "immutable"),
]


@pytest.mark.parametrize(("target", "reason"), UNFIT)
def test_what_cannot_be_wrapped_is_refused_and_nothing_else_stays(
    syn: SimpleNamespace, target: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(PatchRefused) as caught:
        install("test", [around(METHOD), around(f"{BASE}.Child.static"), around(target), around(PLAIN)])
    assert reason in str(caught.value) + caplog.text and not syn.changed()


def test_a_bare_generator_is_refused_on_a_context_manager(syn: SimpleNamespace) -> None:
    def forgot_the_decorator(original: Any, value: int) -> Iterator[int]:
        yield value

    with pytest.raises(PatchRefused, match="context manager"):
        install("test", [Hook(f"{BASE}.manager", "around", forgot_the_decorator)])
    assert not syn.changed()


def test_a_swallowed_registry_failure_is_seen(syn: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_done(target: str, hooks: list[Any]) -> None:
        HookRegistry.__dict__["_apply_target"].__func__(HookRegistry, target, hooks)
        raise RuntimeError("after setattr")

    for broken in (half_done, lambda target, hooks: None):
        with monkeypatch.context() as patched:
            patched.setattr(HookRegistry, "_apply_target", broken)
            with pytest.raises(PatchRefused, match="wrapper in its place"):
                install("test", [around(PLAIN)])
        assert not syn.changed()


def test_a_target_another_plugin_wrapped_is_wrapped_again(syn: SimpleNamespace, registry: type[HookRegistry]) -> None:
    registry.register(PLAIN, tag("theirs"), HookType.AROUND)
    registry.apply_hooks()
    theirs = syn.base.plain
    with install("ours", [around(PLAIN, "ours")]):
        assert syn.user.renamed() == ("ours", ("theirs", ("plain", (), {})))
    assert syn.base.plain is syn.user.plain is syn.user.renamed is theirs
    assert set(registry._patched) == {PLAIN} and len(registry._hooks[PLAIN]) == 1


def test_a_plugin_that_comes_after_us_is_neither_dropped_nor_destroyed(
    syn: SimpleNamespace, registry: type[HookRegistry], caplog: pytest.LogCaptureFixture
) -> None:
    ours = install("ours", [around(PLAIN, "ours")])
    assert not ours.problems()
    registry.register(PLAIN, tag("theirs"), HookType.AROUND)
    registry.apply_hooks()
    assert syn.user.plain() == ("theirs", ("ours", ("plain", (), {})))
    assert "put there after" in ours.problems()[0]
    with caplog.at_level(logging.WARNING):
        ours.undo()
    assert syn.base.plain() == syn.user.plain() == ("theirs", ("plain", (), {})) and "left as it is" in caplog.text


def test_hooks_again_over_a_stale_wrapper_and_away(syn: SimpleNamespace) -> None:
    first = install("first", [around(PLAIN, "1")])
    held = syn.base.plain
    syn.base.plain = lambda *args: ("foreign", held(*args))
    with install("second", [around(PLAIN, "2")]):
        assert syn.base.plain() == ("2", ("foreign", ("1", ("plain", (), {}))))
        first.undo()
        assert syn.base.plain() == ("2", ("foreign", ("plain", (), {})))
    assert syn.base.plain() == ("foreign", ("plain", (), {}))
    syn.base.plain = held  # they leave, and put our dead wrapper back
    with install("third", [around(PLAIN, "3")]):
        assert syn.base.plain() == ("3", ("plain", (), {}))
    assert not syn.changed()


def test_pending_hooks_of_others_are_not_applied_early(syn: SimpleNamespace, registry: type[HookRegistry]) -> None:
    registry.register(METHOD, tag("theirs"), HookType.AROUND)
    with install("ours", [around(PLAIN)]):
        assert not registry._patched and syn.base.Base().method() == ("method", (), {})


@pytest.mark.parametrize("pending", [METHOD, f"{BASE}.Base"])
def test_a_pending_replacement_by_another_plugin_is_refused(
    syn: SimpleNamespace, registry: type[HookRegistry], pending: str
) -> None:
    registry.register(pending, syn.base.Child if pending.endswith("Base") else tag("x"), HookType.REPLACE)
    with pytest.raises(PatchRefused, match="about to replace"):
        install("ours", [around(METHOD)])
    assert not syn.changed()


def test_a_wrapper_looks_like_the_original(syn: SimpleNamespace) -> None:
    before = inspect.signature(syn.base.Child.method), syn.base.Child.method.__qualname__
    with install("test", [around(f"{BASE}.Child.method")]):
        assert (inspect.signature(syn.base.Child.method), syn.base.Child.method.__qualname__) == before
