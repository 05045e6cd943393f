"""How each side of a server runs a step: the target, the frozen-KV draft and the EAGLE draft, eagerly or replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g4diag.fuzz.backend_steps import Reading, Step, forward_batch
from g4diag.fuzz.swa_invariants import SwaInvariants
from g4diag.stack.drive import forwards, frozen_worker, spec_inputs
from g4diag.stack.drive.backend_fixture import ROWS, Rig
from g4diag.stack.drive.forwards import planned
from g4diag.stack.drive.request_state import request_row


class BackendSides(SwaInvariants):
    """Base of the machine. A graph is captured over padding; what its kernels read are the tensors of its metadata, so
    a replay must fill those and no others."""

    rig: Rig
    held: dict[int, Any]  # rid -> what holds its request row

    def begin(self, rig: Rig) -> None:
        """Over these pools, nothing captured yet."""
        self.rig, self.held = rig, {}
        self.reading = Reading(None, rig.sizes.page_size)
        self._captured: dict[tuple[str, int, int], tuple[Any, ...]] = {}
        self._frozen: Any = None
        self._frozen_graph: Any = None
        self._twin: Any = None

    def check(self) -> None:
        """The allocator has a machine of its own; here a step is judged where it reads."""

    def kernel(self, arguments: dict[str, Any]) -> None:
        """A kernel was called."""
        self.reading.kernel(arguments)

    def target_step(self, step: Step, padding: int | None) -> None:
        """A forward of the target. padding: rows more than the batch that its graph was captured with; None: eager."""
        self._run([step], padding, self.rig.runner, self.rig.backend, [self.rig.backend])

    def ready_batch(self, step: Step, *, is_draft: bool) -> Any:
        """The ForwardBatch of an eager decode of the target, or of a frozen-KV draft, for `ready_step`."""
        return self._frozen_batch(step) if is_draft else self._batch(step, len(step.rids), 0, self.rig.runner)

    def ready_step(self, step: Step, batch: Any, *, is_draft: bool) -> None:
        """Run a batch that `ready_batch` made."""
        if is_draft:
            self._reads(step, self._frozen.draft_forward, batch)
        else:
            self.call(self.rig.backend.init_forward_metadata, batch)
            self._reads(step, forwards.forward_through(self.rig.runner, self.rig.backend), batch)
        self._count(step, graph=False)

    def has_frozen(self) -> bool:
        """Whether this server has a frozen-KV draft."""
        return True

    def frozen_step(self, step: Step, *, graph: bool) -> None:
        """A draft over the target's K/V by sglang's worker, or by its graph runner, which pads by itself."""
        self._make_frozen()
        if graph and self._frozen_graph is None:
            self._capture_frozen()
        batch = self._frozen_batch(step)
        before = [buffer.numpy().tobytes() for buffer in self._target_buffers()]
        draft = frozen_worker.replay_of(self._frozen_graph) if graph else self._frozen.draft_forward
        self._reads(step, draft, batch)
        same = before == [buffer.numpy().tobytes() for buffer in self._target_buffers()]
        self.claim("draft_writes_nothing", same, "a draft over the target's K/V wrote to the target's pools")
        if graph:
            rows = frozen_worker.replayed_rows(self._frozen_graph)
            self._replayed(step, rows, planned(self._frozen.draft_attn_backend, batch.forward_mode))
        self._count(step, graph)

    def twin_step(self, step: Step, padding: int | None) -> None:
        """A draft extend, or the prefill before the first, of the draft with K/V of its own."""
        runner = self._twin_runner()
        self._run([step], padding, runner, runner.attn_backend, [runner.attn_backend])

    def twin_decode(self, steps: list[Step], padding: int | None) -> None:
        """The steps of one draft: planned together, then each forwarded through the backend of its own."""
        runner = self._twin_runner()
        self._run(steps, padding, runner, self._multi, self._multi.attn_backends)

    def _twin_runner(self) -> Any:
        """The EAGLE draft, made when first asked for."""
        if self._twin is None:
            self._twin = self.call(self.rig.twin)
            self._multi = forwards.multi_step_backend(self._twin, self.rig.sizes.drafts, ROWS)
        return self._twin

    def _run(self, steps: list[Step], padding: int | None, runner: Any, plans: Any, readers: list[Any]) -> None:
        """Steps that `plans` plans in one call and that each reader reads one of."""
        rows, width = len(steps[0].rids), 0
        first: Any = None  # an eager step runs the batch that it planned
        if padding is None:
            first = self._batch(steps[0], rows, width, runner)
            self.call(plans.init_forward_metadata, first)
        else:
            rows, width = min(ROWS, rows + padding), self._width(steps[0])
            self._capture(steps, rows, width, runner, plans, readers)
            self.call(forwards.plan_replay, plans, self._batch(steps[0], rows, width, runner))
        for step, reader in zip(steps, readers, strict=True):
            batch, first = self._batch(step, rows, width, runner) if first is None else first, None
            if runner is self._twin:
                # Before it writes: a write past a draft's pool raises, and names no trap.
                for layer in runner.model.layers:
                    self.call(forwards.layer_table, reader, layer, batch)
            forward = forwards.forward_through if padding is None else forwards.recorded_forward
            self._reads(step, forward(runner, reader), batch)
            if padding is not None:
                self._replayed(step, rows, planned(reader, batch.forward_mode))
            self._count(step, padding is not None)

    def _width(self, step: Step) -> int:
        """Tokens a row in a graph."""
        return 1 if step.phase in ("DECODE", "DRAFT_DECODE") else self.rig.sizes.drafts

    def _capture(self, steps: list[Step], rows: int, width: int, runner: Any, plans: Any, readers: list[Any]) -> None:
        if (steps[0].phase, 0, rows) in self._captured:
            return
        nobody = [Step(step.phase, (), (), (), (), (), step.ahead) for step in steps]
        self.call(forwards.plan_capture, plans, self._batch(nobody[0], rows, width, runner))
        for step, reader in zip(nobody, readers, strict=True):
            batch = self._batch(step, rows, width, runner)
            self._reads(None, forwards.recorded_forward(runner, reader), batch)
            self._captured[step.phase, step.ahead, rows] = planned(reader, batch.forward_mode)

    def _capture_frozen(self) -> None:
        from g4diag.stack.drive.frozen_worker import closure_graph_runner

        self._frozen_graph = self._reads(None, closure_graph_runner, self._frozen)
        for rows in frozen_worker.captured_rows(self._frozen_graph):
            metadata = frozen_worker.captured_metadata(self._frozen, rows)
            self._captured["FROZEN_DECODE", 0, rows] = forwards.tensors_of(metadata)

    def _reads(self, step: Step | None, function: Callable[[Any], Any], argument: Any) -> Any:
        self.reading = Reading(step, self.rig.sizes.page_size)
        result = self.call(function, argument)
        wrong = self.reading.wrong
        self.claim("reads_what_was_written", not wrong, lambda: "; ".join(wrong))
        self.claim("kernels_are_called", self.reading.calls >= 2, "fewer kernel calls than layers")
        return result

    def _replayed(self, step: Step, rows: int, tensors: tuple[Any, ...]) -> None:
        """A graph reads what it was captured with, whatever Python holds by now."""
        same = tensors == self._captured[step.phase, step.ahead, rows]
        self.claim("replay_fills_what_was_captured", same, f"{step.phase}: metadata of {rows} rows has moved")
        self.cover("padding_rows", self.reading.padding)
        self.cover("replayed_smaller", rows > len(step.rids))

    def _batch(self, step: Step, size: int, width: int, runner: Any) -> Any:
        batch = self._built(forward_batch(step, *self._places(step), size, width), step)
        if step.phase == "DRAFT_DECODE":
            batch.spec_info = spec_inputs.eagle_draft()
        if step.phase == "DRAFT_EXTEND":
            accepted = batch.extend_seq_lens_cpu if step.rids else None
            batch.spec_info = spec_inputs.eagle_extend(batch.extend_seq_lens, accepted, self.rig.sizes.drafts)
        forwards.bind_plan(runner, batch)
        return batch

    def _frozen_batch(self, step: Step) -> Any:
        self._make_frozen()
        batch = self._built(forward_batch(step, *self._places(step), len(step.rids), 0), step)
        batch.spec_info = spec_inputs.frozen_draft(len(step.rids))
        forwards.bind_plan(self._frozen.draft_model_runner, batch)
        return batch

    def _make_frozen(self) -> None:
        """The frozen-KV draft is made when first asked for."""
        if self._frozen is None:
            self._frozen = self.call(self.rig.frozen)

    def _built(self, batch: Any, step: Step) -> Any:
        """The batch, of which the book knows whose request rows it was built with, as of one that sglang builds."""
        if step.rids:
            reqs = [self.held[rid] for rid in step.rids]
            batch.rids = [req.rid for req in reqs]
            self.session.books["request rows"].built(batch.rids, reqs, self.rig.rows)
        return batch

    def _places(self, step: Step) -> tuple[list[int], list[list[int]]]:
        """(request rows, full slots) of the step's requests."""
        rows = [request_row(self.held[rid]) for rid in step.rids]
        return rows, [self.model.requests[rid].slots for rid in step.rids]

    def _target_buffers(self) -> list[Any]:
        pool = self.rig.pool
        return [*pool.full_kv_pool.k_buffer, *pool.swa_kv_pool.k_buffer]

    def _count(self, step: Step, graph: bool) -> None:
        self.cover(f"{step.phase.lower()}_{'graph' if graph else 'eager'}")
        self.cover("batched", len(step.rids) > 1)
