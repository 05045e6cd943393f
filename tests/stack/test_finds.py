"""The self-contained tests of docs/finds fail, for the reason that their pages give, while their bugs are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

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


def why_not(name: str) -> str:
    """Why this release has nothing for the file to find, "" if it has."""
    module, _ = NEEDS[name]
    if not has_module(module):
        return f"this release has no {module}"
    cured = missing(LINES.get(name, ()))
    return f"not in this release: {cured}" if cured else ""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Element:
    """pytest's JUnit report of all of them in one fresh process, in which sglang is imported once."""
    folder = tmp_path_factory.mktemp("finds")
    names = [name for name in NEEDS if not why_not(name)]
    for name in names:
        shutil.copy(FINDS / name, folder)
        assert "g4diag" not in (folder / name).read_text()
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("SGLANG", "TRITON", "PYTEST"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *names]
    command += ["--junitxml", "report.xml"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-3000:]
    return ElementTree.parse(folder / "report.xml").getroot()


@pytest.mark.parametrize("name", NEEDS)
def test_it_fails_as_its_page_says_and_without_g4diag(name: str, ran: Element) -> None:
    if reason := why_not(name):
        pytest.skip(reason)
    cases = [case for case in ran.iter("testcase") if case.get("classname") == name.removesuffix(".py")]
    failed = [text for case in cases for found in case.iter("failure") if (text := found.text)]
    assert cases and len(failed) == len(cases), name
    assert all("AssertionError" in text for text in failed) and any(NEEDS[name][1] in text for text in failed), failed
