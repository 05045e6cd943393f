"""The signature stays the same across runs, machines and pool sizes, and differs where the defect does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from g4diag.model import IndexSpace, LayerKind, Severity, Violation
from g4diag.signature import backend_name, is_signature, signature
from tests import strategies

SWA_BUG = Violation(
    "page_table_stays_in_pool",
    Severity.ERROR,
    "page 189 is outside",
    worker="draft",
    phase="draft_decode",
    path="eager",
    backend="TRTLLMHAAttnBackend",
    step=12,
    layer_id=4,
    layer_kind=LayerKind.SWA,
    window_left=128,
    row=0,
    rid="r7",
    column=61,
    value=189,
    bound=154,
    expected_space=IndexSpace.SWA_PAGE,
)


def test_the_frozen_kv_swa_bug() -> None:
    assert signature(SWA_BUG) == "g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode"


def test_ids_steps_sizes_and_the_label_do_not_count() -> None:
    other = replace(
        SWA_BUG, step=9, layer_id=22, window_left=512, row=3, rid="x", column=1, value=8665, bound=8657, path="graph"
    )
    assert signature(other) == signature(replace(SWA_BUG, value_space=IndexSpace.FULL_PAGE)) == signature(SWA_BUG)


@pytest.mark.parametrize(
    "change",
    [{"trap": "x"}, {"expected_space": IndexSpace.FULL_PAGE}, {"layer_kind": LayerKind.FULL}, {"phase": "extend"}],
    ids=lambda change: next(iter(change)),
)
def test_the_defect_counts(change: dict[str, str]) -> None:
    assert signature(replace(SWA_BUG, **change)) != signature(SWA_BUG)  # type: ignore[arg-type]


def test_unknown_parts_are_dashes() -> None:
    assert signature(Violation("swa_state_follows_pool", Severity.ERROR, "")) == "g4d1:swa_state_follows_pool:-:-:-:-"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TRTLLMHAAttnBackend", "trtllm_mha"),
        ("TRTLLMHAAttnMultiStepDraftBackend", "trtllm_mha"),
        ("HybridAttnBackend>TRTLLMHAAttnBackend", "hybrid>trtllm_mha"),
        ("FlashAttentionBackend", "fa"),
        ("FlashInferAttnBackend", "flashinfer"),
        ("TritonAttnBackend", "triton"),
        ("trtllm_mha", "trtllm_mha"),
        ("", ""),
    ],
)
def test_backends_go_by_the_name_of_their_flag(name: str, said: str) -> None:
    assert backend_name(name) == said


@settings(max_examples=60, deadline=None)
@given(strategies.violations)
def test_any_violation_has_one_of_six_plain_parts(violation: Violation) -> None:
    text = signature(violation)
    assert is_signature(text) and text.isascii() and " " not in text
