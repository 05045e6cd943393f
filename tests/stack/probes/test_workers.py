"""Whose pool it is, by the runner that brought it; and a backend that no file describes is said, once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

import torch

from g4diag.hooks.install import install
from g4diag.stack import backends
from g4diag.stack.probes.pools import pool_views
from g4diag.stack.probes.workers import Backends


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Backends:
    """Of triton alone: hooks are slow to put on."""
    triton = tuple(attention for attention in backends.known() if attention.name == "triton")
    monkeypatch.setattr(backends, "known", lambda: triton)
    return Backends(lambda swap: None)


def plain(name: str = "k_buffer") -> Any:
    class Pool(SimpleNamespace):
        __hash__ = object.__hash__  # type: ignore[assignment]

    return Pool(**{name: [torch.zeros(8, 1)]}, page_size=4)


@pytest.mark.parametrize(("buffer", "of_target"), [("k_buffer", "full"), ("kv_buffer", "mla")])
def test_a_plain_pool_is_the_workers_that_brought_it(known: Backends, buffer: str, of_target: str) -> None:
    target, draft = plain(buffer), plain(buffer)
    known._pool_owner.update({target: "target", draft: "draft"})
    assert known.layer_pool(target, 0)[0].name == of_target
    assert known.layer_pool(draft, 0)[0].name == "draft-own"
    assert [view.name for view in pool_views(target)] == [of_target]


def test_a_target_of_a_plain_pool_is_served_from_the_full_one(known: Backends) -> None:
    target, backend = plain(), plain()
    known._pool_owner[target] = "target"
    known._allocator[backend] = SimpleNamespace(get_kvcache=lambda: target)
    assert [view.name for view in known.pools()] == ["full"]


def test_a_backend_without_a_file_is_named_once(known: Backends, caplog: pytest.LogCaptureFixture) -> None:
    from sglang.srt.layers.attention import attention_registry

    from g4diag.stack.drive.backends import SMALL, bare_server

    runner = bare_server(SMALL).runner
    runner.model_config.hf_config.get_text_config = lambda: runner.model_config.hf_text_config
    runner.model_config.linear_attn_registry_result = runner._linear_attn_registry_cache = None
    watched = type("Watched", (), {"__module__": known.attentions[0].backend.rpartition(".")[0]})
    watched.__qualname__ = known.attentions[0].class_name
    nobodys = type("NobodysBackend", (), {})
    with install("test", known.hooks()):
        for backend in (watched(), nobodys(), nobodys()):
            assert attention_registry.attn_backend_wrapper(runner, backend) is backend
    said = [record.getMessage() for record in caplog.records if "NOT WATCHED" in record.getMessage()]
    assert len(said) == 1 and "NobodysBackend of the target" in said[0] and "no trap sees" in said[0]
    assert known.facts["not_watched"] == ["NobodysBackend"]


def test_one_whose_form_is_another_says_what_was_wanted(known: Backends, caplog: pytest.LogCaptureFixture) -> None:
    from g4diag.errors import PatchRefused

    known.unwatched, known.attentions = {"triton": PatchRefused("there", "q first", "k first")}, ()
    moved = type("TritonAttnBackend", (), {})
    known._taken(None, SimpleNamespace(is_draft_worker=True), moved())
    assert "TritonAttnBackend of the draft" in caplog.text and "wanted q first" in caplog.text
