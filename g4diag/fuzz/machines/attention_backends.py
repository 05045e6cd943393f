"""sglang's attention backends that a CPU can build: what each hands its layers for the target and a frozen-KV draft.

The machine of `backend-metadata` with another backend under it, by draw. These hand their kernels tables of many forms,
so the traps are the judges, over what our probes see. Where the draft has branches (topk above 1), pages are of one
token, a verify is of a tree, and the accepted path's slots move to the front. Left out: the EAGLE draft; a frozen-KV
draft with branches; graphs of intel_amx, which has none; and the frozen-KV draft of backends that decide by the
runner's own pool, which is `frozen-draft-fa`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from g4diag.fuzz.backend_steps import Step, reading_kernels
from g4diag.fuzz.contract import Machine
from g4diag.fuzz.machines import backend_metadata
from g4diag.fuzz.machines.backend_metadata import BackendMachine
from g4diag.fuzz.rules import initialize
from g4diag.fuzz.strategies import backend_sizes, of_release
from g4diag.stack.drive import forwards, spec_inputs
from g4diag.stack.drive.attention_backends import drivable, has_graphs, verifies_trees
from g4diag.stack.drive.request_state import write_row

_OWN_POOL_DECIDES = ("fa4", "intel_amx")


def _topk() -> tuple[int, ...]:
    return (1, 2)


class AttentionMachine(BackendMachine):
    """Requests as there."""

    draft_of_its_own = None  # type: ignore[assignment]  # a rule there

    @initialize(**backend_sizes(backend_metadata.MACHINE.page_sizes), **of_release(attention=drivable, topk=_topk))
    def start(self, attention: str = "trtllm_mha", topk: int = 1, **sizes: Any) -> None:
        """attention: the backend of target and draft. topk: branches of a draft step, where that backend takes them."""
        self.attention = attention
        if topk > 1 and verifies_trees(attention):
            tokens = sizes["page_size"]
            pages = tuple(count * tokens for count in sizes["pages"])
            sizes |= {"page_size": 1, "pages": pages, "context_pages": sizes["context_pages"] * tokens}
            sizes |= {"topk": topk, "others": 0}
        self.of_graph: dict[tuple[str, int], Any] = {}
        self.replays = False
        super().start(**sizes)

    def kernel(self, arguments: dict[str, Any]) -> None:
        """A kernel was called."""

    def target_step(self, step: Step, padding: int | None) -> None:
        """Eagerly where this backend has no graphs."""
        padding = padding if has_graphs(self.attention) else None
        self.replays = padding is not None
        super().target_step(step, padding)
        self.cover(f"{self.attention}_{step.phase.lower()}")
        if step.phase == "TARGET_VERIFY" and self.rig.sizes.topk > 1:
            self.cover(f"{self.attention}_tree")
            for rid in step.rids:
                self._accept_path(rid)

    def frozen_step(self, step: Step, *, graph: bool) -> None:
        """Where there is such a draft."""
        if self.has_frozen():
            self.replays = False
            super().frozen_step(step, graph=graph)
            self.cover(f"{self.attention}_frozen_decode")

    def has_frozen(self) -> bool:
        """Where such a draft reads what it should."""
        return self.attention not in _OWN_POOL_DECIDES and self.rig.sizes.topk == 1

    def ready_step(self, step: Step, batch: Any, *, is_draft: bool) -> None:
        """Eagerly."""
        self.replays = False
        super().ready_step(step, batch, is_draft=is_draft)
        self.cover(f"{self.attention}_{step.phase.lower()}")

    def _reads(self, step: Step | None, function: Callable[[Any], Any], argument: Any) -> Any:
        """A graph reads what it was captured with. Some backends keep one metadata for graphs of all sizes."""
        if self.replays:
            reader = forwards.chosen(self.rig.backend, argument.forward_mode)
            key = argument.forward_mode.name, argument.batch_size
            if step is None:
                self.of_graph[key] = copy(reader.forward_metadata)
            else:
                reader.forward_metadata = self.of_graph[key]
        return self.call(function, argument)

    def _capture_frozen(self) -> None:
        from g4diag.stack.drive.frozen_worker import closure_graph_runner

        self._frozen_graph = self.call(closure_graph_runner, self._frozen)

    def _replayed(self, step: Step, rows: int, tensors: tuple[Any, ...]) -> None:
        if step.phase == "FROZEN_DECODE":  # where what was captured lies differs by backend
            self.cover("replayed_smaller", rows > len(step.rids))
        else:
            super()._replayed(step, rows, tensors)

    def _batch(self, step: Step, size: int, width: int, runner: Any) -> Any:
        batch = super()._batch(step, size, width, runner)
        batch.spec_algorithm = runner.spec_algorithm
        if step.phase == "TARGET_VERIFY":
            drafts, topk, lens = self.rig.sizes.drafts, self.rig.sizes.topk, batch.seq_lens.tolist()
            if topk == 1:
                batch.spec_info = spec_inputs.chain_verify(lens, drafts)
            else:
                batch.spec_info = spec_inputs.tree_verify(lens, [_tree(n, drafts, topk) for n in lens], topk)
        return batch

    def _accept_path(self, rid: int) -> None:
        """Of a tree the path to its last token stays, as far as it is accepted, and its slots come first."""
        request, drafts = self.model.requests[rid], self.rig.sizes.drafts
        new = request.slots[request.committed :]
        path = _tree(request.committed, drafts, self.rig.sizes.topk)[-1].nonzero().flatten().tolist()
        rest = [index for index in range(len(new)) if index not in path]
        request.slots[request.committed :] = [new[index] for index in (*path, *rest)]
        write_row(self.rig.rows, self.held[rid], request.slots)
        self.cover("path_moved", path != list(range(len(path))))


def _tree(committed: int, drafts: int, topk: int) -> Any:
    """The tree that a request of so many committed tokens is verified over: up to `topk` children each."""
    return spec_inputs.tree([(token - 1) // (1 + (committed + token) % topk) for token in range(1, drafts)])


def _goals() -> tuple[str, ...]:
    phases = ("extend", "decode", "target_verify", "frozen_decode")
    every = [(name, phase) for name in drivable() for phase in phases]
    found = [f"{name}_{phase}" for name, phase in every if phase != phases[-1] or name not in _OWN_POOL_DECIDES]
    return (*found, *(f"{name}_tree" for name in drivable() if verifies_trees(name)))


MACHINE = Machine(
    name="attention-backends",
    subject="trtllm_mha, triton, fa4 and intel_amx: eager and graph metadata",
    drives=AttentionMachine,
    goals=(
        *("diverged", "recycled", "window_crossed", "batched", "wrapped", "replayed_smaller"),
        *("extend_eager", "decode_eager", "decode_graph", "target_verify_eager", "target_verify_graph"),
        *("frozen_decode_eager", "frozen_decode_graph"),
    ),
    release_goals=_goals,
    oracle=backend_metadata.MACHINE.oracle,
    probes=backend_metadata.MACHINE.probes,
    books=backend_metadata.MACHINE.books,
    page_sizes=backend_metadata.MACHINE.page_sizes,
    steps=30,
    surroundings=reading_kernels,
)
