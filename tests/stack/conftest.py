"""Views of a healthy run, recorded once for all tests that only read them."""

from __future__ import annotations

from typing import Any

import pytest

from g4diag import guard
from g4diag.hooks.install import install
from g4diag.model import View


@pytest.fixture(scope="session")
def healthy_views() -> tuple[View, ...]:
    """What every probe saw of a server: each request is admitted, decoded and drafted for, eager and in a graph, the
    oldest leaving. The kernel looks at no table and no cache."""
    import torch

    from g4diag.stack.drive import cpu
    from g4diag.stack.drive.frozen_draft import FrozenDraft
    from g4diag.stack.drive.serving import Geometry, Serving
    from g4diag.stack.probes.contract import Context, made
    from g4diag.stack.probes.workers import Backends

    def blind(query: torch.Tensor, **arguments: Any) -> torch.Tensor:
        return torch.zeros_like(query)

    views: list[View] = []
    before = guard.set_raising(True)
    probes = made(Context(Backends(views.append), views.append, stock_every=1))
    hooks = [hook for probe in probes for hook in probe.hooks()]
    with install("recorded", hooks), cpu.attention_kernels(blind, blind):
        serving = Serving(Geometry(), seed=0)
        draft = FrozenDraft(serving)
        for rid, ids in serving.prompts():
            while not serving.admit(rid, ids):
                serving.release(serving.running.reqs[0])
            draft.eager()
            draft.graph()
            serving.decode()
            if len(serving.running.reqs) >= serving.geometry.live:
                serving.release(serving.running.reqs[0])
    guard.set_raising(before)
    return tuple(views)
