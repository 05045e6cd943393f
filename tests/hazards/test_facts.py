"""Facts of a command line: met, ruled out, or open with what would tell; never claimed where it cannot be told."""

from __future__ import annotations

from typing import Any

import pytest

from g4diag.analyzers.matching import known_issues
from g4diag.hazards.deployment import Deployment
from g4diag.hazards.facts import FACTS, judge_facts
from tests.hazards.test_hazards import (
    HOPPER_SPLIT,
    MOE,
    NAMED,
    SPECULATIVE,
    TRITON_DRAFT,
    TRTLLM,
    VERIFY_ON_DECODE,
    deployment,
)

BLIND: dict[str, Any] = {"target": None, "draft": None, "capability": None}
LLAMA = {"architectures": ["LlamaForCausalLM"]}
EAGLE = {"speculative-algorithm": "EAGLE", "speculative-draft-model-path": "d"}


def verdict(name: str, value: str, server: Deployment) -> str:
    return judge_facts({name: {value}}, server)[0]


@pytest.mark.parametrize(
    ("name", "value", "met", "out"),
    [
        ("algorithm", "nextn", deployment(SPECULATIVE), deployment(EAGLE)),
        ("speculates", "yes", deployment(SPECULATIVE), deployment({})),
        ("draft", "frozen-kv", deployment(SPECULATIVE), deployment(SPECULATIVE, draft=LLAMA)),
        ("draft", "own", deployment(EAGLE, draft=LLAMA), deployment({})),
        ("attention", "trtllm_mha", deployment(HOPPER_SPLIT), deployment({"attention-backend": "triton"})),
        ("attention", "fa4", deployment({"speculative-draft-attention-backend": "fa4"}), deployment(HOPPER_SPLIT)),
        ("drafts_on", "trtllm_mha", deployment(SPECULATIVE | HOPPER_SPLIT), deployment(SPECULATIVE | TRITON_DRAFT)),
        ("wrapper", "yes", deployment(SPECULATIVE | HOPPER_SPLIT), deployment(SPECULATIVE | HOPPER_SPLIT | NAMED)),
        ("wrapper", "yes", deployment(SPECULATIVE | HOPPER_SPLIT), deployment(SPECULATIVE | TRTLLM)),
        ("wrapper", "yes", deployment(SPECULATIVE | HOPPER_SPLIT), deployment(SPECULATIVE, **BLIND)),
        (
            "wrapper",
            "yes",
            deployment(SPECULATIVE | HOPPER_SPLIT),
            deployment(SPECULATIVE | HOPPER_SPLIT | {"speculative-eagle-topk": "4"}),
        ),
        ("xqa", "decode", deployment(HOPPER_SPLIT), deployment(HOPPER_SPLIT, capability=(10, 0))),
        ("xqa", "draft", deployment(SPECULATIVE | HOPPER_SPLIT), deployment(SPECULATIVE | HOPPER_SPLIT | TRITON_DRAFT)),
        (
            "xqa",
            "verify",
            deployment(SPECULATIVE | HOPPER_SPLIT | VERIFY_ON_DECODE),
            deployment(SPECULATIVE | HOPPER_SPLIT),
        ),
        ("xqa", "verify", deployment(SPECULATIVE | TRTLLM, sglang="0.5.20"), deployment(SPECULATIVE | TRTLLM)),
        ("graphs", "off", deployment({"disable-cuda-graph": ""}), deployment({})),
        ("graphs", "some", deployment({"cuda-graph-max-bs": "8"}), deployment({})),
        ("page", "larger", deployment({"page-size": "64"}), deployment({"page-size": "1"})),
        ("model", "gemma4", deployment({}), deployment({}, target=LLAMA)),
        ("experts", "moe", deployment({}, target=MOE), deployment({})),
        ("windows", "yes", deployment({}, target=LLAMA | {"sliding_window": 128}), deployment({}, target=LLAMA)),
        ("swa_ratio", "low", deployment({"swa-full-tokens-ratio": "0.15"}), deployment({})),
        ("topk", "tree", deployment({"speculative-eagle-topk": "4"}), deployment({})),
        ("kv", "fp8", deployment({"kv-cache-dtype": "fp8_e4m3"}), deployment({"kv-cache-dtype": "auto"})),
        ("radix", "on", deployment({}), deployment({"disable-radix-cache": ""})),
        ("disaggregation", "decode", deployment({"disaggregation-mode": "decode"}), deployment({})),
    ],
)
def test_a_fact_is_met_or_ruled_out(name: str, value: str, met: Deployment, out: Deployment) -> None:
    assert verdict(name, value, met) == "met"
    assert verdict(name, value, out) == "ruled out"


def test_every_fact_is_tried() -> None:
    tried = test_a_fact_is_met_or_ruled_out.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {row[0] for row in tried} == set(FACTS)


@pytest.mark.parametrize(
    ("name", "value", "server", "missing"),
    [
        ("draft", "frozen-kv", deployment(SPECULATIVE, **BLIND), "the draft's config.json"),
        ("attention", "triton", deployment({}, **BLIND), "the attention backend that sglang chooses"),
        ("drafts_on", "fa4", deployment(SPECULATIVE, **BLIND), "the attention backend that sglang chooses"),
        (
            "wrapper",
            "yes",
            deployment(SPECULATIVE | {"decode-attention-backend": "trtllm_mha"}, **BLIND),
            "the attention backend that sglang chooses",
        ),
        ("xqa", "draft", deployment(SPECULATIVE | HOPPER_SPLIT, **BLIND), "the GPU"),
        ("page", "larger", deployment({}), "--page-size"),
        ("model", "gemma4", deployment({}, **BLIND), "the model's config.json"),
        ("experts", "moe", deployment({}, **BLIND), "the model's config.json"),
        ("windows", "yes", deployment({}, **BLIND), "the model's config.json"),
    ],
)
def test_what_cannot_be_told_is_open_and_says_what_would_tell(
    name: str, value: str, server: Deployment, missing: str
) -> None:
    assert judge_facts({name: {value}}, server) == ("open", (missing,))


def test_without_a_gpu_what_no_gpu_would_make_so_is_ruled_out() -> None:
    assert verdict("xqa", "verify", deployment(HOPPER_SPLIT, **BLIND)) == "ruled out", "no draft, no verify"
    assert verdict("xqa", "draft", deployment(SPECULATIVE | {"attention-backend": "triton"}, **BLIND)) == "ruled out"


def test_one_fact_ruled_out_rules_out_all_and_a_missing_one_is_named_once() -> None:
    wanted = {"model": {"gemma4"}, "windows": {"yes"}, "page": {"larger"}}
    assert judge_facts(wanted, deployment({"page-size": "1"}, **BLIND)) == ("ruled out", ())
    assert judge_facts(wanted, deployment({}, **BLIND)) == ("open", ("the model's config.json", "--page-size"))


@pytest.mark.parametrize("issue", [issue for issue in known_issues() if issue.flags], ids=lambda issue: issue.id)
def test_a_known_issue_asks_for_facts_that_there_are(issue: Any) -> None:
    assert set(issue.flags) <= set(FACTS)
    assert judge_facts(issue.flags, deployment({}))[0] in ("met", "open", "ruled out")
