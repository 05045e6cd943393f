"""In both real views the wrapper's children read the target's pool, and everything is restored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.patches.applying import applied, selected_patches, status
from g4diag.settings import Selection
from tests.patches.runners import swa_pool
from tests.patches.test_patch_e_views import VIEWS, view

NAME = "hybrid-wrapper-pool-swap"


def child(pool: Any) -> Any:
    """As much of a backend as the views touch; `decode_backend` is the string that TRTLLMHAAttnBackend inherits."""
    return SimpleNamespace(token_to_kv_pool=pool, _swa_kv_pool=None, decode_backend="fa2")


def wrapped(own: Any, prefill: Any, decode: Any) -> Any:
    """A real HybridAttnBackend around two children, as much of it as its constructor's anchors say."""
    from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend

    backend = object.__new__(HybridAttnBackend)
    backend.token_to_kv_pool, backend.prefill_backend, backend.decode_backend = own, prefill, decode
    return backend


@pytest.mark.parametrize("name", VIEWS)
def test_children_follow_and_are_restored(name: str) -> None:
    pool, own = swa_pool(), object()
    prefill, decode = child(own), child(own)
    backend = wrapped(own, prefill, decode)
    with view(name, backend, pool):
        assert backend.token_to_kv_pool is pool and decode.token_to_kv_pool is own, "upstream swaps the wrapper only"
    with applied([NAME]), view(name, backend, pool):
        for each in (backend, prefill, decode):
            assert each.token_to_kv_pool is pool
        assert prefill._swa_kv_pool is decode._swa_kv_pool is pool
    for each in (prefill, decode):
        assert vars(each) == vars(child(own))
    assert backend.token_to_kv_pool is own


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("error", [ZeroDivisionError(), StopIteration(), KeyboardInterrupt()])
def test_an_exception_of_the_body_restores_and_stays_itself(name: str, error: BaseException) -> None:
    own = object()
    only = child(own)
    backend = wrapped(own, only, only)
    with applied([NAME]), pytest.raises(type(error)) as caught, view(name, backend, swa_pool()):
        raise error
    assert caught.value is error and vars(only) == vars(child(own)) and backend.token_to_kv_pool is own


@pytest.mark.parametrize("name", VIEWS)
def test_a_wrapper_inside_a_wrapper_and_a_pool_of_the_class_are_restored_too(name: str) -> None:
    class Inherits:
        token_to_kv_pool = "of the class"

    pool, own, inherits = swa_pool(), object(), Inherits()
    inner = wrapped(own, inherits, child(own))
    with applied([NAME]), view(name, wrapped(own, child(own), inner), pool):
        assert inner.token_to_kv_pool is pool and inherits.token_to_kv_pool is pool
    assert inner.token_to_kv_pool is own and vars(inherits) == {}


@pytest.mark.parametrize("name", VIEWS)
def test_a_string_named_decode_backend_is_no_child(name: str) -> None:
    pool, backend = swa_pool(), child("own")
    with applied([NAME]), view(name, backend, pool):
        assert backend.token_to_kv_pool is pool and backend._swa_kv_pool is None, "patch E's business, not this one's"
    assert vars(backend) == vars(child("own"))


def test_it_goes_with_patch_e_and_all_takes_it() -> None:
    pool, own = swa_pool(), object()
    decode = child(own)
    backend = wrapped(own, decode, decode)
    assert NAME in selected_patches(Selection(everything=True)) and status_of() == "available"
    with applied(["faulty-rule", "patch-e", NAME]), view(VIEWS[0], backend, pool):
        assert decode._swa_kv_pool is pool
    assert vars(decode) == vars(child(own))


def status_of() -> str:
    from g4diag.patches.applying import patches

    return status(patches()[NAME]).state
