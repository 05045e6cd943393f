"""One full run of trtllm-mha-swa, shared by the tests that read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4diag.scenario import Options, Outcome
from repro.trtllm_mha_swa import SCENARIO


def silent(text: str, done: int, total: int) -> None:
    """No progress line."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Every state of trtllm-mha-swa, seed 0, default geometry."""
    directory: Path = tmp_path_factory.mktemp("dumps")
    return SCENARIO.run(Options(dump_dir=directory), silent)
