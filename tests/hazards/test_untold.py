"""Hazards that hang on what is not told are named with what would tell, and none is where all is told."""

from __future__ import annotations

import pytest

from g4diag.hazards.deployment import ASSISTANTS, GEMMA4, Deployment
from g4diag.hazards.judging import judge
from g4diag.hazards.untold import open_hazards
from g4diag.model.doctor import DRAFT_CONFIG as DRAFT
from g4diag.model.doctor import MODEL_CONFIG as MODEL
from g4diag.model.doctor import THE_GPU as GPU

TARGET = {"architectures": [GEMMA4[0]], "head_dim": 256}
FLAGS = {"model-path": "m", "attention-backend": "trtllm_mha", "speculative-algorithm": "NEXTN"}
FLAGS |= {"speculative-draft-model-path": "d"}


def named(**told: object) -> dict[str, tuple[str, ...]]:
    asked = Deployment(sglang="0.5.12", flags=FLAGS, **told)  # type: ignore[arg-type]
    return {row.name: row.missing for row in open_hazards(asked, [row.name for row in judge(asked)])}


def test_each_is_named_with_what_would_tell() -> None:
    found = named()
    assert found["trtllm-mha-prefill-arch"] == (GPU,) and found["allocator-rule-draft"] == (DRAFT,)
    assert found["swa-ratio-moe"] == (MODEL,) and found["xqa-head-dim"] == (MODEL, GPU)


def test_none_is_open_where_all_is_told() -> None:
    assert named(target=TARGET, draft={"architectures": [ASSISTANTS[0]]}, capability=(10, 0)) == {}


@pytest.mark.parametrize("told", [{"target": TARGET}, {"capability": (9, 0)}, {"draft": {"architectures": ["x"]}}])
def test_a_fact_that_is_told_is_not_asked_for(told: dict[str, object]) -> None:
    asked = {"target": MODEL, "capability": GPU, "draft": DRAFT}[next(iter(told))]
    found = named(**told)
    assert found and all(asked not in missing for missing in found.values())


def test_what_an_armed_patch_cures_is_not_open() -> None:
    asked = Deployment(sglang="0.5.12", flags=FLAGS)
    assert "swa-ratio-moe" not in {row.name for row in open_hazards(asked, (), ("swa-ratio-moe",))}
