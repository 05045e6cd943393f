"""A backend of another form than ours knows is left out and named; the others are watched."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("sglang")

from g4diag.stack import backends
from g4diag.stack.releases.contract import Point


def test_what_is_installed_here_is_watched() -> None:
    assert {"trtllm_mha", "triton", "intel_amx", "flashinfer"} <= {attention.name for attention in backends.here()}
    assert not backends.unwatched()


def test_a_backend_whose_forward_moved_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (triton,) = [attention for attention in backends.here() if attention.name == "triton"]
    moved = Point(f"{triton.backend}.forward_decode", ("layer", "q", "k", "v", "forward_batch"))
    others = tuple(attention for attention in backends.known() if attention.name != "triton")
    monkeypatch.setattr(backends, "known", lambda: (*others, replace(triton, forwards=(moved,))))
    assert "triton" not in {attention.name for attention in backends.here()}
    assert "trtllm_mha" in {attention.name for attention in backends.here()}
    assert "wanted parameters layer, q" in str(backends.unwatched()["triton"])
