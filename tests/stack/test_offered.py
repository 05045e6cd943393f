"""The tests of docs/offered pass on the release that they are for, and each fails where its claim is broken."""

from __future__ import annotations

import importlib.util
import unittest
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

pytest.importorskip("sglang")

from g4diag.stack.drive import cpu
from g4diag.stack.releases import current

FILE = Path(__file__).parents[2] / "docs/offered/test_trtllm_mha_swa_pool.py"
pytestmark = pytest.mark.skipif(current().name != "0.5.23", reason="they were written for 0.5.23")
Breaks = Callable[[Any], AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def offered() -> ModuleType:
    cpu.prepare_environment()
    spec = importlib.util.spec_from_file_location("offered", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def window_short(module: Any) -> AbstractContextManager[Any]:
    honest = module.common.free_swa_out_of_window_slots

    def evict(*args: Any, sliding_window_size: int, **kwargs: Any) -> None:
        honest(*args, sliding_window_size=sliding_window_size - 2 * module.PAGE, **kwargs)

    return patch.object(module.common, "free_swa_out_of_window_slots", evict)


def rows_left_in_qkv(module: Any) -> AbstractContextManager[Any]:
    honest = module.Server.__init__

    def built(server: Any) -> None:
        honest(server)
        server.backend.is_xqa_impl = False  # then the rows stay where they are

    return patch.object(module.Server, "__init__", built)


def draft_that_writes(module: Any) -> AbstractContextManager[Any]:
    backend = module.trtllm_mha_backend.TRTLLMHAAttnBackend
    honest = backend.forward_decode

    def forward(self: Any, q: Any, k: Any, v: Any, layer: Any, batch: Any, **kwargs: Any) -> Any:
        self.token_to_kv_pool.get_kv_buffer(layer.layer_id)[0][:1] += 1
        return honest(self, q, k, v, layer, batch, **kwargs)

    return patch.object(backend, "forward_decode", forward)


FAULTS: dict[str, Breaks] = {
    "test_page_in_window_is_mapped": window_short,
    "test_query_rows_are_packed": rows_left_in_qkv,
    "test_draft_writes_no_kv": draft_that_writes,
}


def failed(module: ModuleType, breaks: Breaks) -> set[str]:
    """Names of the tests that do not pass."""
    result = unittest.TestResult()
    with breaks(module):
        unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    assert result.testsRun == len(FAULTS) and not result.skipped
    tests = [test for test, _ in (*result.failures, *result.errors)]
    return {getattr(test, "test_case", test)._testMethodName for test in tests}


def test_they_pass_as_released_and_know_nothing_of_g4diag(offered: ModuleType) -> None:
    assert failed(offered, lambda module: nullcontext()) == set()
    assert "g4diag" not in FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FAULTS)
def test_each_fails_where_its_claim_is_broken(name: str, offered: ModuleType) -> None:
    assert failed(offered, FAULTS[name]) == {name}
