"""sglang's two frozen-KV views, over several drafts at once: what is swapped inside, and that leaving puts it back.

Views of either kind are opened and left in any nesting, over plain backends, HybridAttnBackend wrappers with two
children or one, and beside EAGLE drafts that they must not touch; bodies raise, and so does the model in the
middle of sglang's own draft, capture and replay.
The views do not reach a wrapper's children, in 0.5.13 and in 0.5.23. The machine runs with our cure of that, and
tests/fuzz takes the cure away and finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition

from g4diag.fuzz.backend_steps import Reading, Step, forward_batch, reading_kernels
from g4diag.fuzz.contract import Books, Machine, Sink
from g4diag.fuzz.machine import FuzzMachine
from g4diag.fuzz.rules import initialize, rule
from g4diag.fuzz.strategies import draft_numbers
from g4diag.hooks.install import Hook
from g4diag.stack.drive import forwards, spec_inputs
from g4diag.stack.drive.backend_fixture import Rig, Sizes
from g4diag.stack.drive.frozen_worker import pool_state, pool_state_in_view, replay_of

_KINDS = ("plain", "wrapped", "one_child")
_VIEWS = ("frozen_kv_target_view", "target_kv_pool_view")
_a_draft = precondition(lambda self: self.drafts)
_an_open_view = precondition(lambda self: self.opened)


class Stopped(Exception):
    """Raised by a body, or by the model."""


@dataclass
class Draft:
    """A frozen-KV worker and its backends. rest: (pool, SWA state) of each before any view; a wrapper has no SWA state.
    depth: views of it that are open. graphs: its graph runner, once captured."""

    worker: Any
    backends: list[Any]
    rest: list[tuple[Any, Any]] = field(default_factory=list)
    depth: int = 0
    graphs: Any = None

    def state(self) -> list[tuple[Any, Any]]:
        """(pool, SWA state) of each backend now."""
        return [pool_state(each) for each in self.backends]


class FrozenKVViewsMachine(FuzzMachine):
    """Beside the trap: every backend of every draft is, at all times, as its open views say, object for object."""

    @initialize(page_size=st.sampled_from((16, 32, 64)), context=st.integers(32, 256))
    def start(self, page_size: int, context: int) -> None:
        self.page_size = page_size
        self.rig: Rig = self.call(Rig, Sizes(page_size, 8, 4, context, window=page_size, drafts=3))
        self.drafts: list[Draft] = []
        self.twins: list[tuple[Any, Any]] = []
        self.opened: list[tuple[Draft, str, Any, Any, Any]] = []

    @precondition(lambda self: len(self.drafts) < 3)
    @rule(kind=st.sampled_from(_KINDS))
    def bind(self, kind: str) -> None:
        """Another draft over the same target."""
        worker = self.call(self.rig.frozen, kind != "plain")
        top = worker.draft_attn_backend
        if kind == "one_child":
            top.prefill_backend = top.decode_backend
        children = [] if kind == "plain" else [top.decode_backend, top.prefill_backend]
        draft = Draft(worker, [*children, top])
        draft.rest = draft.state()
        self.drafts.append(draft)
        self.cover(kind)

    @precondition(lambda self: len(self.twins) < 2)
    @rule()
    def bind_twin(self) -> None:
        """An EAGLE draft: the views are none of its business."""
        made = self.call(self.rig.twin).attn_backend
        self.twins.append((made, pool_state(made)))
        self.cover("twin")

    @_a_draft
    @rule(draft=draft_numbers(), view=st.sampled_from(_VIEWS))
    def enter(self, draft: int, view: str) -> None:
        """Open a view, inside those that are open."""
        chosen = self.drafts[draft]
        batch = self._batch(chosen)
        spec_info = batch.spec_info
        worker = chosen.worker
        method = worker._frozen_kv_target_view if view == _VIEWS[0] else worker._target_kv_pool_view
        body = method(batch)
        self.call(body.__enter__)
        chosen.depth += 1
        self.opened.append((chosen, view, body, batch, spec_info))
        self.claim("batch_has_no_draft_inside", view != _VIEWS[0] or batch.spec_info is None, "spec_info stayed")
        self.cover("nested", len(self.opened) > 1)
        self.cover("nested_in_itself", chosen.depth > 1)
        self.cover("both_views", len({name for _, name, *_ in self.opened}) > 1)
        self.cover("two_drafts", len({id(other) for other, *_ in self.opened}) > 1)

    @_an_open_view
    @rule(fails=st.booleans())
    def leave(self, fails: bool) -> None:
        """Leave the innermost view, by an exception if `fails`: it must come out as it went in."""
        chosen, _, body, batch, spec_info = self.opened.pop()
        chosen.depth -= 1
        stopped = Stopped() if fails else None
        came_out = self.call(_leave, body, stopped)
        self.claim("exception_goes_on", came_out is stopped, f"{stopped!r} went in, {came_out!r} came out")
        self.claim("batch_gets_its_draft_back", batch.spec_info is spec_info, "spec_info is another")
        self.cover("exception_in_body", fails)

    @_a_draft
    @rule(draft=draft_numbers(), fails=st.booleans())
    def draft_eagerly(self, draft: int, fails: bool) -> None:
        """sglang's own draft loop, whatever views are open around it."""
        chosen = self.drafts[draft]
        self._run(chosen, chosen.worker.draft_forward, self._batch(chosen), fails=fails)
        self.cover("drafted")

    @_a_draft
    @rule(draft=draft_numbers(), fails=st.booleans())
    def capture(self, draft: int, fails: bool) -> None:
        """A graph runner is made for a draft."""
        from g4diag.stack.drive.frozen_worker import closure_graph_runner

        chosen = self.drafts[draft]
        chosen.graphs = self._run(chosen, closure_graph_runner, chosen.worker, fails=fails)
        self.cover("captured", chosen.graphs is not None)

    @precondition(lambda self: any(draft.graphs for draft in self.drafts))
    @rule(draft=draft_numbers(), fails=st.booleans())
    def replay(self, draft: int, fails: bool) -> None:
        """The draft loop through its graphs."""
        chosen = self.drafts[draft]
        if chosen.graphs is not None:
            self._run(chosen, replay_of(chosen.graphs), self._batch(chosen), fails=fails)
            self.cover("replayed")

    def check(self) -> None:
        if not hasattr(self, "rig"):
            return
        target = self.rig.pool
        for number, draft in enumerate(self.drafts):
            inside = [pool_state_in_view(each, target) for each in draft.backends]
            self._stands(f"draft {number}", draft.state(), inside if draft.depth else draft.rest)
        for number, (twin, rest) in enumerate(self.twins):
            self._stands(f"twin {number}", [pool_state(twin)], [rest])

    def _stands(self, who: str, found: list[tuple[Any, Any]], wanted: list[tuple[Any, Any]]) -> None:
        pairs = zip(found, wanted, strict=True)
        wrong = [at for at, (now, due) in enumerate(pairs) if now[0] is not due[0] or now[1] is not due[1]]
        self.claim(
            "state_is_as_the_views_say", not wrong, f"{who}: its backends {wrong} have another pool or SWA state"
        )

    def kernel(self, arguments: dict[str, Any]) -> None:
        """The attention kernel was called, over padding only."""
        self.reading.kernel(arguments)

    def teardown(self) -> None:
        # In order, and now: a view that the garbage collector closes is closed in another example.
        while hasattr(self, "rig") and self.opened:
            self.opened.pop()[2].__exit__(None, None, None)
        super().teardown()

    def _run(self, draft: Draft, function: Callable[[Any], Any], argument: Any, *, fails: bool) -> Any:
        """sglang's function; None where it was stopped."""
        self.reading = Reading(None, self.page_size)
        model = draft.worker.draft_model_runner.model
        model.raises = Stopped() if fails else None
        try:
            result = self.call(_stoppable, function, argument)
        finally:
            model.raises = None
        wrong = self.reading.wrong
        self.claim("reads_padding_only", not wrong, lambda: "; ".join(wrong))
        self.claim("model_is_reached", self.reading.calls > 0, "no kernel was called")
        self.claim("exception_goes_on", (result is None) == fails, "the model raised and nobody heard")
        self.cover("exception_in_model", fails)
        return result

    def _batch(self, draft: Draft) -> Any:
        """One row of padding for a draft: request row 0, one key, on the dummy page."""
        batch = forward_batch(Step("FROZEN_DECODE", (), (), (), (), ()), [], [], 1, 1)
        batch.spec_info = spec_inputs.frozen_draft(1)
        forwards.bind_plan(draft.worker.draft_model_runner, batch)
        return batch


def _leave(body: Any, stopped: Stopped | None) -> Stopped | None:
    """Leave a view, by `stopped` if it is one; what comes out."""
    swallowed = body.__exit__(None if stopped is None else Stopped, stopped, None)
    return None if swallowed else stopped


def _stoppable(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except Stopped:
        return None


def _probes(sink: Sink, books: Books) -> list[Hook]:
    from g4diag.stack.probes.pool_swap import PoolSwapProbe
    from g4diag.stack.probes.workers import Backends

    backends = Backends(sink)
    return [*backends.hooks(), *PoolSwapProbe(backends, sink).hooks()]


@contextmanager
def _with_the_cure() -> Iterator[None]:
    from g4diag.patches.applying import applied

    with applied(["hybrid-wrapper-pool-swap"]), reading_kernels():
        yield


MACHINE = Machine(
    name="frozen-kv-views",
    subject="frozen_kv_target_view and target_kv_pool_view, by hand and in a worker and its graph runner",
    drives=FrozenKVViewsMachine,
    goals=(
        *("nested", "nested_in_itself", "both_views", "two_drafts", "exception_in_body", "exception_in_model"),
        *("plain", "wrapped", "one_child", "twin", "drafted", "captured", "replayed"),
    ),
    oracle=("swa_state_follows_pool",),
    probes=_probes,
    surroundings=_with_the_cure,
)
