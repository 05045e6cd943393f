"""Whatever owners do, and in whatever order, each call runs the original once under exactly the hooks that are on,
and a target that nobody hooks is the very object it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

pytest.importorskip("sglang")

from g4diag.errors import PatchRefused
from g4diag.hooks.install import Hook, Installation, install
from tests.synthetic import BASE, USER, differences, module, raw_snapshot, tree

# Place -> the place whose hooks it shares: aliases of a module function are one target.
PLACES = {
    f"{BASE}.plain": f"{BASE}.plain",
    f"{USER}.plain": f"{BASE}.plain",
    f"{USER}.renamed": f"{BASE}.plain",
    f"{BASE}.manager": f"{BASE}.manager",
    f"{USER}.manager": f"{BASE}.manager",
    **{f"{BASE}.{name}": f"{BASE}.{name}" for name in ("Base.method", "Base.static", "Base.klass")},
    **{f"{BASE}.{name}": f"{BASE}.{name}" for name in ("Child.method", "Child.static", "Child.klass", "Child.own")},
    f"{USER}.method_alias": f"{USER}.method_alias",
}
UNFIT = (f"{BASE}.Base.prop", f"{BASE}.kernel", f"{BASE}.missing", f"{BASE}.Base")
HOOKS = st.lists(st.tuples(st.sampled_from(sorted(PLACES)), st.sampled_from(["before", "after", "around"])), max_size=5)


class Hooks(RuleBasedStateMachine):
    installations = Bundle("installations")

    def __init__(self) -> None:
        super().__init__()
        self.context = tree()
        self.base, self.user = self.context.__enter__()
        self.late: list[Any] = []
        self.before = raw_snapshot(self.base, self.user)
        self.plain = self.base.plain
        self.on: dict[int, tuple[Installation, list[str]]] = {}
        self.ran: list[int] = []
        self.count = 0

    def teardown(self) -> None:
        for installation, _ in self.on.values():
            installation.undo()
        try:
            assert not differences(self.before, raw_snapshot(self.base, self.user))
        finally:
            self.context.__exit__(None, None, None)

    def hook(self, place: str, kind: Any, number: int) -> Hook:
        def observe(*_: Any, **__: Any) -> None:
            self.ran.append(number)

        def wrap(original: Any, *args: Any, **kwargs: Any) -> Any:
            self.ran.append(number)
            return original(*args, **kwargs)

        return Hook(place, kind, wrap if kind == "around" else observe)

    @initialize()
    def nothing_is_on(self) -> None:
        assert not differences(self.before, raw_snapshot(self.base, self.user))

    @rule(target=installations, hooks=HOOKS)
    def an_owner_comes(self, hooks: list[tuple[str, str]]) -> int:
        self.count += 1
        number = self.count
        installation = install(str(number), [self.hook(place, kind, number) for place, kind in hooks])
        self.on[number] = installation, [place for place, _ in hooks]
        return number

    @rule(hooks=HOOKS, unfit=st.sampled_from(UNFIT), data=st.data())
    def an_owner_is_refused(self, hooks: list[tuple[str, str]], unfit: str, data: st.DataObject) -> None:
        wanted = [self.hook(place, kind, -1) for place, kind in hooks]
        wanted.insert(data.draw(st.integers(0, len(wanted))), Hook(unfit, "around", lambda original: original()))
        before = raw_snapshot(self.base, self.user)
        unused = {place for place in PLACES if not self.expected(place)}
        with pytest.raises(PatchRefused):
            install("refused", wanted)
        changed = {f"{BASE}.{a}.{b}" if "." not in a else f"{a}.{b}" for a, b in differences(before, self.now())}
        assert not changed & unused

    @rule(number=consumes(installations), again=st.booleans())
    def an_owner_leaves(self, number: int, again: bool) -> None:
        installation, _ = self.on.pop(number)
        installation.undo()
        if again:
            installation.undo()

    @rule()
    def a_module_is_imported_meanwhile(self) -> None:
        name = f"g4synthetic.late{len(self.late)}"
        self.late.append(module(name, f"from {BASE} import plain"))

    def now(self) -> dict[tuple[str, str], Any]:
        return raw_snapshot(self.base, self.user)

    def expected(self, place: str) -> list[int]:
        """Numbers of the owners whose hooks sit on `place`, one for each hook."""
        shared = PLACES[place]
        return sorted(number for number, (_, places) in self.on.items() for p in places if PLACES[p] == shared)

    def observed(self, call: Any) -> list[int]:
        self.ran.clear()
        call()
        return sorted(self.ran)

    @invariant()
    def calls_run_exactly_the_hooks_that_are_on(self) -> None:
        base, child = self.base.Base(), self.base.Child()
        for function in (self.base.plain, self.user.plain, self.user.renamed, *(late.plain for late in self.late)):
            self.base.calls.clear()
            assert self.observed(lambda call=function: call(1)) == self.expected(f"{BASE}.plain")
            assert self.base.calls == ["plain"]
        for name in ("method", "static", "klass"):
            of_base, of_child = (self.expected(f"{BASE}.{holder}.{name}") for holder in ("Base", "Child"))
            self.base.calls.clear()
            assert self.observed(getattr(base, name)) == of_base
            assert self.observed(getattr(child, name)) == sorted(of_base + of_child)
            assert self.base.calls == [name, name]
        assert self.observed(child.own) == self.expected(f"{BASE}.Child.own")

    @invariant()
    def context_managers_stay_context_managers(self) -> None:
        self.base.calls.clear()
        with self.user.manager(7) as value:
            assert value == 7
        assert self.base.calls == ["manager", "left"]

    @invariant()
    def what_nobody_hooks_is_the_very_object_it_was(self) -> None:
        changed = {".".join(at) for at in differences(self.before, self.now())}
        for place in PLACES:
            key = place if place.rpartition(".")[0] in (BASE, USER) else place.removeprefix(f"{BASE}.")
            # A module alias of a method moves with the method as well as by itself.
            movers = [place, f"{BASE}.Base.method"] if place.endswith("method_alias") else [place]
            if not any(self.expected(mover) for mover in movers):
                assert key not in changed
        if not self.expected(f"{BASE}.plain"):
            assert all(late.plain is self.plain for late in self.late)


TestHooks = Hooks.TestCase
TestHooks.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
