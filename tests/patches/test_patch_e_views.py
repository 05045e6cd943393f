"""In both real views SWA state follows the pool, and everything is restored, whatever the body does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.patches.applying import applied, selected_patches
from g4diag.settings import Selection
from tests.patches.runners import swa_pool, worker_module

VIEWS = ("frozen_kv_target_view", "target_kv_pool_view")


def view(name: str, backend: Any, target_pool: Any) -> Any:
    """The view as the worker imported it."""
    batch, context = SimpleNamespace(spec_info="spec"), SimpleNamespace(target_token_to_kv_pool=target_pool)
    return getattr(worker_module(), name)(batch, context, backend)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("patch", ["patch-e-views", "patch-e"])
def test_state_follows_the_pool_and_is_restored(name: str, patch: str) -> None:
    pool, own = swa_pool(), object()
    backend = SimpleNamespace(token_to_kv_pool=own, _swa_kv_pool=None)
    with applied([patch]):
        with view(name, backend, pool):
            assert backend.token_to_kv_pool is pool and backend._swa_kv_pool is pool
        assert vars(backend) == {"token_to_kv_pool": own, "_swa_kv_pool": None}
    with view(name, backend, pool):
        assert backend._swa_kv_pool is None, "undone"


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("mapped", [True, False], ids=["SWA target", "plain target"])
def test_the_raw_mapping_of_later_releases_follows_too(name: str, mapped: bool) -> None:
    """From 0.5.16 on the graph's metadata kernel reads it; it must never speak of another pool than the state does."""
    pool = swa_pool() if mapped else object()
    before = {"token_to_kv_pool": "own", "_swa_kv_pool": None, "_swa_full_to_swa_mapping": None}
    backend = SimpleNamespace(**before)
    with applied(["patch-e-views"]), view(name, backend, pool):
        assert backend._swa_kv_pool is (pool if mapped else None)
        assert backend._swa_full_to_swa_mapping is (pool.full_to_swa_index_mapping if mapped else None)
    assert vars(backend) == before


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("error", [ZeroDivisionError(), StopIteration(), KeyboardInterrupt()])
def test_an_exception_of_the_body_restores_and_stays_itself(name: str, error: BaseException) -> None:
    backend = SimpleNamespace(token_to_kv_pool="own", _swa_kv_pool="before")
    with applied(["patch-e-views"]), pytest.raises(type(error)) as caught, view(name, backend, swa_pool()):
        raise error
    assert caught.value is error and vars(backend) == {"token_to_kv_pool": "own", "_swa_kv_pool": "before"}


@pytest.mark.parametrize("name", VIEWS)
def test_backends_without_the_state_get_none(name: str) -> None:
    backend = SimpleNamespace(token_to_kv_pool="own")
    with applied(["patch-e-views"]), view(name, backend, swa_pool()):
        assert not hasattr(backend, "_swa_kv_pool")


@pytest.mark.parametrize("name", VIEWS)
def test_a_target_without_swa_is_read_without_swa_state(name: str) -> None:
    backend = SimpleNamespace(token_to_kv_pool="own", _swa_kv_pool=None)
    with applied(["patch-e-views"]), view(name, backend, object()):
        assert backend._swa_kv_pool is None


def test_an_unbound_draft_still_gets_upstreams_own_error() -> None:
    from sglang.srt.speculative import frozen_kv_mtp_utils

    backend, refused = SimpleNamespace(_swa_kv_pool=None), pytest.raises(RuntimeError, match="before the model")
    with applied(["patch-e-views"]), refused, frozen_kv_mtp_utils.target_kv_pool_view(None, None, backend):
        raise AssertionError("entered")


def test_all_never_takes_the_demonstration() -> None:
    assert "patch-e-views" not in selected_patches(Selection(everything=True))
