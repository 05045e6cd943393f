"""A backend of another form than ours knows is left out and named; the others are watched. Whose a backend is, is told
by its class."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("sglang")

from g4diag.errors import G4DiagError
from g4diag.stack import backends
from g4diag.stack.probes import workers
from g4diag.stack.releases.contract import Point


def test_what_is_installed_here_is_watched() -> None:
    fit = backends.fit()
    assert {"trtllm_mha", "triton", "intel_amx", "flashinfer"} <= {attention.name for attention in fit.watched}
    assert not fit.refused


def test_a_backend_whose_forward_moved_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (triton,) = [attention for attention in backends.fit().watched if attention.name == "triton"]
    moved = Point(f"{triton.backend}.forward_decode", ("layer", "q", "k", "v", "forward_batch"))
    others = tuple(attention for attention in backends.known() if attention.name != "triton")
    monkeypatch.setattr(backends, "known", lambda: (*others, replace(triton, forwards=(moved,))))
    fit = backends.fit()
    assert "triton" not in {attention.name for attention in fit.watched}
    assert "trtllm_mha" in {attention.name for attention in fit.watched}
    assert "wanted parameters layer, q" in str(fit.refused["triton"])


def test_a_class_is_looked_up_once_and_its_own_file_comes_before_its_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    base = type("Base", (), {"__module__": "there", "__qualname__": "Base"})
    own, inherits, nobodys = (
        type("Own", (base,), {"__module__": "there"}),
        type("Inherits", (base,), {}),
        type("No", (), {}),
    )
    files = tuple(SimpleNamespace(name=name, backend=f"there.{name}") for name in ("Base", "Own"))
    monkeypatch.setattr(backends, "fit", lambda: backends.Fit(files, {}))  # type: ignore[arg-type]
    known = workers.Backends(lambda swap: None)
    assert [known.attention(kind()).name for kind in (own, inherits, base)] == ["Own", "Base", "Base"]
    assert not known.knows(nobodys()) and known.described(nobodys()) is None
    with pytest.raises(G4DiagError, match="describes No"):
        known.attention(nobodys())
    known.attentions = ()
    assert known.attention(own()).name == "Own", "a class once looked up is not looked up again"
