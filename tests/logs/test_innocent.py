"""Logs of other programs, other models and healthy servers: no known issue is theirs, not even as a possibility."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4diag.analyzers import inspect_files
from g4diag.errors import G4DiagError
from g4diag.report import match_json

FOLDER = Path(__file__).parent / "innocent"
# File -> (first word, exit code of inspect); "" for one that is no log.
OUTCOMES = {
    "jax.log": ("CRASH", 4),
    "llama-cpp.log": ("CRASH", 4),
    "sglang-bad-flag.log": ("", 5),
    "sglang-healthy-eagle.log": ("HEALTHY", 0),
    "sglang-healthy-llama.log": ("HEALTHY", 0),
    "sglang-sampler-ima-llama.log": ("CRASH", 4),
    "tgi-generate-error.log": ("CRASH", 4),
    "training-ima.log": ("CRASH", 4),
    "training-nccl.log": ("CRASH", 4),
    "training-oom.log": ("CRASH", 4),
    "vllm-healthy.log": ("HEALTHY", 0),
    "vllm-ima-llama.log": ("CRASH", 4),
}


def test_every_file_has_its_row() -> None:
    assert sorted(OUTCOMES) == sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("name", OUTCOMES)
def test_nothing_is_matched(name: str) -> None:
    word, leave = OUTCOMES[name]
    if not word:
        with pytest.raises(G4DiagError) as refused:
            inspect_files([FOLDER / name])
        assert refused.value.exit_code == leave
        return
    inspection = inspect_files([FOLDER / name])
    assert inspection.of("verdict")[0].text.startswith(f"{word}: g4diag: ")
    assert inspection.outcome.exit_code == leave and match_json.exit_code(inspection) == 4
    assert not inspection.of("known_issues") and not inspection.of("cure")
