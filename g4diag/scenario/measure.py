"""Run one state of a pool scenario and read it: mechanism for the scenario files, no scenario itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from g4diag import settings
from g4diag.dump.writer import write_dump
from g4diag.errors import CannotRunError
from g4diag.hooks.install import install
from g4diag.hooks.manifest import recorded
from g4diag.model import Incident, View, Violation
from g4diag.patches.applying import applied, patches
from g4diag.scenario import Drive, Outcome, Reading, State
from g4diag.stack.drive import cpu
from g4diag.stack.drive.frozen_draft import FrozenDraft
from g4diag.stack.drive.observer import Observer, Probes, Tally
from g4diag.stack.drive.own_pool_draft import OwnPoolDraft
from g4diag.stack.drive.serving import Geometry, Serving
from g4diag.stack.live.selection import traps
from g4diag.stack.pairs import tiny_gemma
from g4diag.stack.pairs.accepting_pair import models, task
from g4diag.traps.contract import Trap

FIRST_BAD_READ = ("page_table_stays_in_pool", "page_table_in_layer_space", "swa_state_follows_pool")


@dataclass(frozen=True)
class Measured:
    """A state's two readings, and its first bad reads if it had any. violations: all of them, in order."""

    state: State
    readings: tuple[Reading, Reading]
    violations: tuple[Violation, ...]
    incident: Incident | None

    def written(self, outcome: Outcome, dump_dir: Path | None) -> Outcome:
        """`outcome` with this state's first bad read, and its dump on disk."""
        from g4diag.analyzers.verdict import verdict_lines

        if self.incident is None:
            return outcome
        incident = replace(
            self.incident,
            versions={name: version for name, version in outcome.versions.items() if version},
            context={"scenario": outcome.scenario, "state": self.state.name, "seed": outcome.seed},
        )
        directory = settings.dump_dir(dump_dir)
        path = write_dump(incident, directory / f"{outcome.scenario}-{self.state.name}-seed{outcome.seed}.pt")
        return replace(outcome, first=self.first(), dump=path, lines=tuple(verdict_lines(incident)))

    def first(self) -> Violation | None:
        """The first violation of the loudest trap that fired."""
        return next((v for trap in FIRST_BAD_READ for v in self.violations if v.trap == trap), None)


@contextmanager
def probed() -> Iterator[Probes]:
    """Probes hooked for the body; `measure` points them at the state it runs."""
    probes = Probes()
    with install("g4diag repro", probes.hooks()), recorded("traps", [trap.name for trap in _traps()]):
        yield probes


def measure(
    state: State, geometry: Geometry, seed: int, probes: Probes, until: Callable[[Violation], bool] | None = None
) -> Measured:
    """Serve the scenario's requests under `state`; draft at every step, eager, graph and in truth. until: stop after
    the step with such a violation. In inference mode, as SGLANG_ENABLE_TORCH_INFERENCE_MODE has a server: calls on tiny
    tensors take less."""
    import torch

    observer = probes.observer = Observer(judge_all, probes.attend_prefill)
    errors: dict[str, Exception] = {}
    with (
        _environment(state.environment),
        applied(state.patches) as manifest,
        cpu.attention_kernels(observer.decode, observer.prefill),
        torch.inference_mode(),
    ):
        algorithm = "EAGLE" if state.twin else "FROZEN_KV_MTP"
        serving = Serving(geometry, seed, algorithm=algorithm, pair=_pair(state, geometry), backend=state.backend)
        draft = OwnPoolDraft(serving) if state.twin else FrozenDraft(serving, **state.draft)
        observer.watch(serving, draft.logical if isinstance(draft, OwnPoolDraft) else serving.logical)
        for _ in _serve(serving, draft):
            _draft_all_ways(draft, observer, errors)
            if until is not None and any(map(until, observer.violations)):
                break
    probes.observer = None
    incident = None if observer.incident is None else replace(observer.incident, manifest=manifest)
    evidence = {} if isinstance(draft, OwnPoolDraft) else draft.evidence
    readings = tuple(_reading(state, path, observer, errors.get(path), evidence) for path in ("eager", "graph"))
    return Measured(state, (readings[0], readings[1]), tuple(observer.violations), incident)


def faults_of(states: Iterable[State | Drive]) -> tuple[str, ...]:
    """Names of the fault states these put back, sorted."""
    known = patches()
    return tuple(sorted({name for state in states for name in state.patches if known[name].kind == "fault"}))


def judge_all(view: View) -> Iterator[Violation]:
    """Every trap that looks at this kind of view."""
    for trap in _traps():
        if isinstance(view, trap.judges):
            yield from trap.judge(view)


@cache
def _traps() -> tuple[Trap, ...]:
    return tuple(traps().values())


def _serve(serving: Serving, draft: FrozenDraft | OwnPoolDraft) -> Iterator[None]:
    """Yields at each point where a draft is due: between target steps, or right after one for the twin.

    When the batch is full the oldest request leaves between two steps, so that those still running grow into
    pages it gave back: low full ids, which a wrong table turns into wrong pages that exist.
    """
    geometry = serving.geometry
    for rid, ids in serving.prompts():
        while not serving.admit(rid, ids):
            serving.release(serving.running.reqs[0])
        for _ in range(geometry.steps_per_admission):
            if isinstance(draft, FrozenDraft):
                yield
            serving.decode()
            if isinstance(draft, OwnPoolDraft):
                yield
            if len(serving.running.reqs) >= geometry.live:
                serving.release(serving.running.reqs[0])


def _draft_all_ways(draft: FrozenDraft | OwnPoolDraft, observer: Observer, errors: dict[str, Exception]) -> None:
    observer.step += 1
    observer.note_use()
    truth = draft.truth()
    for path in ("eager", "graph"):
        with observer.drafting(path):
            try:
                tokens = getattr(draft, path)()
            except CannotRunError:
                raise
            except Exception as error:
                errors.setdefault(path, error)
                continue
            observer.compare_tokens(path, tokens, truth)


def _pair(state: State, geometry: Geometry) -> Any:
    """The accepting pair, whose drafts are right where what they read is; random weights for the twin, whose draft
    is another model, and for prompts too short for the pair's task."""
    shortest = geometry.prompt - 2 * geometry.page_size
    return tiny_gemma if state.twin or shortest < task.least(geometry.window) else models


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reading(
    state: State, path: str, observer: Observer, error: Exception | None, evidence: Mapping[str, int]
) -> Reading:
    tally = observer.tallies[path]
    here = [v for v in observer.violations if v.path in ("", path)]
    return Reading(
        state=state.name,
        path=path,
        swa_use=observer.peak_use,
        checked=tally.checked,
        divergent=tally.divergent,
        out_of_range=tally.out_of_range,
        wrong_in_range=tally.wrong_in_range,
        largest=tally.largest,
        bound=tally.bound,
        relative_error=tally.relative_error,
        agreement=tally.tokens_equal / tally.tokens_compared if tally.tokens_compared else None,
        accept_length=tally.accepted / tally.verify_steps if tally.verify_steps else None,
        rows_faulted=tally.rows_faulted,
        traps=tuple(sorted({v.trap for v in here})),
        outcome=_outcome(tally, [v for v in here if v.path]) if error is None else f"raises {type(error).__name__}",
        expected=getattr(state, path),
        error="" if error is None else f"{type(error).__name__}: {error}".splitlines()[0],
        evidence=dict(evidence),
        twin=state.twin,
        as_released=state.as_released,
    )


def _outcome(tally: Tally, reads: list[Violation]) -> str:
    if tally.out_of_range:
        return "faults"
    exact = not tally.wrong_in_range and not tally.relative_error and tally.tokens_equal == tally.tokens_compared
    return "equal" if exact and not reads else "wrong"
