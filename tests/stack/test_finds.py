"""The self-contained tests of docs/finds fail, for the reason that their pages give, while their bugs are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.anchors import has_module
from g4diag.scenario.applicable import missing
from repro import flashinfer_double_read

FINDS = Path(__file__).parents[2] / "docs" / "finds"
NEEDS = {
    "test_alloc_decode.py": ("sglang.srt.mem_cache.swa_memory_pool", "full_available_size"),
    "test_eager_page_table.py": ("sglang.kernels.ops.attention.trtllm_mha_page_table", "buffer[1].tolist()"),
    "test_flashinfer_double_read.py": (
        "sglang.srt.layers.attention.flashinfer_backend",
        "the paged one reads the prefix alone",
    ),
    "test_frozen_draft_swa_state.py": (
        "sglang.kernels.ops.attention.flash_attention_v4",
        "its sliding layers will be handed full-space page ids",
    ),
    "test_window_margin.py": (
        "sglang.srt.models.gemma4_causal",
        "positions whose window reads the dummy page",
    ),
}
# Where these are not in the source, the bug is not there.
LINES = {
    "test_flashinfer_double_read.py": flashinfer_double_read._WHOLE,
    "test_window_margin.py": (
        ("sglang.srt.managers.schedule_batch.ScheduleBatch._evict_swa", "SGLANG_OPT_SWA_EVICT_DROP_PAGE_MARGIN.get()"),
        ("sglang.srt.models.gemma4_causal.Gemma4Attention", "config.sliding_window if layer_type"),
    ),
}


def test_every_file_is_here() -> None:
    assert {path.name for path in FINDS.glob("*.py")} == set(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_it_fails_as_its_page_says_and_without_g4diag(name: str, tmp_path: Path) -> None:
    module, why = NEEDS[name]
    if not has_module(module):
        pytest.skip(f"this release has no {module}")
    if cured := missing(LINES.get(name, ())):
        pytest.skip(f"not in this release: {cured}")
    shutil.copy(FINDS / name, tmp_path)
    assert "g4diag" not in (tmp_path / name).read_text()
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("SGLANG", "TRITON", "PYTEST"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "AssertionError" in done.stdout and why in done.stdout, done.stdout[-3000:]
