"""The graph runner's constructor sees the target's SWA state; the views are tested in `test_patch_e_views`."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.patches.applying import applied, patches, status
from tests.patches.runners import swa_pool


class One(int):
    """Stands for whatever a constructor reads of its configuration: 1, as is each attribute and call of it."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


class Runner:
    """As much of a model runner as a constructor asks for before it sizes its buffers."""

    device = "cpu"

    def __getattr__(self, name: str) -> Any:
        return One()


def built(monkeypatch: pytest.MonkeyPatch, worker: Any, error: Exception | None = None) -> list[Any]:
    """SWA states that `init_cuda_graph_state` finds, from the real constructor cut short right after it."""
    from sglang.srt.speculative import frozen_kv_mtp_cuda_graph_runner as module

    seen: list[Any] = []

    class SizedEnough(Exception):
        pass

    def init_cuda_graph_state(max_bs: int, max_num_tokens: int) -> None:
        seen.append(worker.draft_attn_backend._swa_kv_pool)
        raise error or SizedEnough

    worker.draft_attn_backend.init_cuda_graph_state = init_cuda_graph_state
    constructor = inspect.unwrap(module.FrozenKVMTPCudaGraphRunner.__init__)
    for name in set(constructor.__code__.co_names) & vars(module).keys():
        if inspect.isfunction(vars(module)[name]):
            monkeypatch.setattr(module, name, One())
    monkeypatch.setattr(module, "get_batch_sizes_to_capture", lambda runner, tokens: ([1], []))
    with pytest.raises(type(error) if error else SizedEnough):
        module.FrozenKVMTPCudaGraphRunner(worker)
    return seen


def worker(target_pool: Any, state: Any = None) -> Any:
    return SimpleNamespace(
        draft_model_runner=Runner(),
        draft_attn_backend=SimpleNamespace(_swa_kv_pool=state),
        kv_context=None if target_pool is None else SimpleNamespace(target_token_to_kv_pool=target_pool),
    )


def test_graph_buffers_are_sized_with_the_targets_state(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = swa_pool()
    subject = worker(pool)
    with applied(["patch-e-views"]):
        assert built(monkeypatch, subject) == [None], "which is why the views are not enough"
    with applied(["faulty-rule", "patch-e"]):
        assert built(monkeypatch, subject) == [pool]
    assert subject.draft_attn_backend._swa_kv_pool is None and built(monkeypatch, subject) == [None]


def test_state_is_restored_when_capture_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = worker(swa_pool())
    with applied(["patch-e"]):
        built(monkeypatch, subject, error=MemoryError("capture"))
    assert subject.draft_attn_backend._swa_kv_pool is None


def test_a_draft_with_no_frozen_target_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    own = object()
    with applied(["patch-e"]):
        assert built(monkeypatch, worker(None, state=own)) == [own]


def test_on_the_released_wheel_it_is_upstream_yet_applicable() -> None:
    patch = patches()["patch-e"]
    assert status(patch).state == "upstream"
    with applied(["patch-e"]):
        assert status(patch).state == "applied"
    assert status(patch).state == "upstream"
