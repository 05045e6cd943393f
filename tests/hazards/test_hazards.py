"""Every hazard is found in the deployment that has it, is silent beside it, and keeps the contract."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from g4diag.discover import contributions
from g4diag.hazards.command_line import parse
from g4diag.hazards.contract import Hazard
from g4diag.hazards.deployment import Deployment
from g4diag.hazards.judging import hazards, judge, possible
from g4diag.matrix.cells import matrix
from g4diag.patches.applying import patches
from tests.contracts import wheels

ASSISTANT = {"architectures": ["Gemma4AssistantForCausalLM"]}
MOE = {"architectures": ["Gemma4ForConditionalGeneration"], "text_config": {"enable_moe_block": True, "head_dim": 256}}
DENSE = {"architectures": ["Gemma4ForConditionalGeneration"], "text_config": {"num_experts": None, "head_dim": 256}}
WIDE = {"architectures": ["Gemma4ForCausalLM"], "global_head_dim": 512, "head_dim": 256}
SPECULATIVE = {"speculative-algorithm": "NEXTN", "speculative-draft-model-path": "d"}
HOPPER_SPLIT = {"prefill-attention-backend": "triton", "decode-attention-backend": "trtllm_mha"}
NAMED = {"speculative-draft-attention-backend": "trtllm_mha"}
TRITON_DRAFT = {"speculative-draft-attention-backend": "triton"}
VERIFY_ON_DECODE = {"speculative-attention-mode": "decode"}


def deployment(flags: dict[str, str], **changes: Any) -> Deployment:
    given: dict[str, Any] = {"sglang": "0.5.13", "target": DENSE, "draft": ASSISTANT, "capability": (9, 0)}
    return Deployment(flags=flags, **given | changes)


# name, a deployment that has it, one beside it that has not
CASES = [
    (
        "draft-not-named",
        deployment({"speculative-algorithm": "NEXTN"}, draft=None),
        deployment({"speculative-algorithm": "NEXTN"}, draft=None, target={"architectures": ["DeepseekV3ForCausalLM"]}),
    ),
    ("draft-not-named", deployment({"speculative-algorithm": "eagle"}, draft=None), deployment(SPECULATIVE)),
    (
        "hybrid-draft-backend",
        deployment(SPECULATIVE | HOPPER_SPLIT),
        deployment(SPECULATIVE | HOPPER_SPLIT | NAMED),
    ),
    (
        "hybrid-draft-backend",
        deployment(SPECULATIVE | {"decode-attention-backend": "trtllm_mha"}),
        deployment(SPECULATIVE | {"decode-attention-backend": "trtllm_mha"}, capability=(10, 0)),
    ),
    (
        "hybrid-draft-backend",
        deployment(SPECULATIVE | HOPPER_SPLIT),
        deployment(SPECULATIVE | HOPPER_SPLIT, draft={"architectures": ["LlamaForCausalLMEagle"]}),
    ),
    (
        "eager-draft-out-cache-loc",
        deployment(SPECULATIVE | {"disable-cuda-graph": "", "max-running-requests": "16"}),
        deployment(SPECULATIVE | {"disable-cuda-graph": ""}, environ={"SGLANG_EAGER_INPUT_NO_COPY": "1"}),
    ),
    (
        "eager-draft-out-cache-loc",
        deployment(SPECULATIVE | {"cuda-graph-max-bs": "8", "max-running-requests": "32"}),
        deployment(SPECULATIVE | {"cuda-graph-max-bs": "32", "max-running-requests": "32"}),
    ),
    ("swa-ratio-moe", deployment({}, target=MOE), deployment({"swa-full-tokens-ratio": "0.8"}, target=MOE)),
    ("swa-ratio-moe", deployment({}, target=MOE), deployment({}, target=DENSE)),
    (
        "swa-ratio-dense",
        deployment({"swa-full-tokens-ratio": "0.15"}),
        deployment({"swa-full-tokens-ratio": "0.15"}, target=MOE),
    ),
    (
        "kv-canary-frozen-draft",
        deployment(SPECULATIVE | {"kv-canary": "log"}),
        deployment(SPECULATIVE | {"kv-canary": "none"}),
    ),
    (
        "kv-canary-gemma-positions",
        deployment({"kv-canary": "log"}, sglang="0.5.23"),
        deployment({"kv-canary": "log"}, sglang="0.5.23", environ={"SGLANG_GEMMA_OUT_OF_PLACE_POSITION_MUTATION": "1"}),
    ),
    (
        "kv-canary-gemma-positions",
        deployment({"kv-canary": "raise"}, target={"architectures": ["Gemma3ForConditionalGeneration"]}),
        deployment({"kv-canary": "raise"}, target={"architectures": ["Gemma4ForCausalLM"]}),
    ),
    (
        "frozen-draft-fa",
        deployment(SPECULATIVE | {"speculative-draft-attention-backend": "fa4"}),
        deployment(SPECULATIVE | NAMED),
    ),
    (
        "frozen-draft-amx",
        deployment(SPECULATIVE | {"attention-backend": "intel_amx"}, sglang="0.5.23"),
        deployment(SPECULATIVE | {"attention-backend": "intel_amx"}, sglang="0.5.22"),
    ),
    (
        "allocator-rule-draft",
        deployment(SPECULATIVE | NAMED, draft={"architectures": ["X"]}, sglang="0.5.12.post1"),
        deployment(SPECULATIVE | NAMED, draft={"architectures": ["X"]}),
    ),
    (
        "own-pool-rule-draft",
        deployment(SPECULATIVE | NAMED, sglang="0.5.13.dev7"),
        deployment(SPECULATIVE | NAMED),
    ),
    (
        "trtllm-mha-prefill-arch",
        deployment({"attention-backend": "trtllm_mha"}),
        deployment({"attention-backend": "trtllm_mha"}, capability=(10, 0)),
    ),
    (
        "trtllm-mha-prefill-arch",
        deployment({"attention-backend": "trtllm_mha"}, sglang="0.5.18"),
        deployment({"attention-backend": "trtllm_mha"}, sglang="0.5.19"),
    ),
    (
        "trtllm-mha-prefill-arch",
        deployment({"attention-backend": "trtllm_mha"}, capability=(12, 0)),
        deployment({"attention-backend": "trtllm_mha"}, capability=(8, 0)),
    ),
    (
        "trtllm-mha-arch",
        deployment({"attention-backend": "trtllm_mha"}, capability=(8, 0), sglang="0.5.23"),
        deployment({"attention-backend": "trtllm_mha"}, sglang="0.5.23"),
    ),
    (
        "trtllm-mha-arch",
        deployment(SPECULATIVE | NAMED, capability=(8, 9)),
        deployment(SPECULATIVE | TRITON_DRAFT, capability=(8, 9)),
    ),
    (
        "eager-draft-out-cache-loc",
        deployment(SPECULATIVE | {"disable-decode-cuda-graph": ""}, sglang="0.5.14"),
        deployment(SPECULATIVE | {"disable-decode-cuda-graph": ""}, sglang="0.5.15"),
    ),
    (
        "eager-draft-out-cache-loc",
        deployment(SPECULATIVE | {"cuda-graph-max-bs-decode": "8"}, sglang="0.5.14"),
        deployment(SPECULATIVE | {"cuda-graph-max-bs-decode": "64"}, sglang="0.5.14"),
    ),
    (
        "hybrid-draft-backend",
        deployment(SPECULATIVE | HOPPER_SPLIT, sglang="0.5.23"),
        deployment(SPECULATIVE | HOPPER_SPLIT | {"speculative-eagle-topk": "2"}, sglang="0.5.23"),
    ),
    (
        "frozen-draft-fa",
        deployment(SPECULATIVE | {"attention-backend": "fa4"}, sglang="0.5.23"),
        deployment(SPECULATIVE | {"attention-backend": "fa4"} | TRITON_DRAFT, sglang="0.5.23"),
    ),
    (
        "xqa-strided-query",
        deployment(SPECULATIVE | NAMED),
        deployment(SPECULATIVE | NAMED, capability=(10, 0)),
    ),
    (
        "xqa-strided-query",
        deployment(HOPPER_SPLIT, capability=(12, 0)),
        deployment(HOPPER_SPLIT, capability=(12, 0), sglang="0.5.16"),
    ),
    (
        "xqa-strided-query",
        deployment(HOPPER_SPLIT),
        deployment(SPECULATIVE | HOPPER_SPLIT | TRITON_DRAFT),
    ),
    (
        "xqa-verify-mask",
        deployment(SPECULATIVE | HOPPER_SPLIT | TRITON_DRAFT | {"speculative-attention-mode": "decode"}),
        deployment(SPECULATIVE | HOPPER_SPLIT | TRITON_DRAFT),
    ),
    (
        "xqa-verify-mask",
        deployment(SPECULATIVE | HOPPER_SPLIT | NAMED | VERIFY_ON_DECODE, sglang="0.5.20"),
        deployment(SPECULATIVE | HOPPER_SPLIT | NAMED | VERIFY_ON_DECODE, sglang="0.5.21"),
    ),
    (
        "xqa-verify-mask",
        deployment(SPECULATIVE | {"attention-backend": "trtllm_mha"}, sglang="0.5.20"),
        deployment(SPECULATIVE | {"attention-backend": "trtllm_mha"}, sglang="0.5.21"),
    ),
    (
        "xqa-verify-mask",
        deployment(SPECULATIVE | {"attention-backend": "trtllm_mha"}, sglang="0.5.19"),
        deployment(SPECULATIVE | {"attention-backend": "trtllm_mha"}, sglang="0.5.18"),
    ),
    (
        "gemma4-backend",
        deployment({"attention-backend": "fa4"}, sglang="0.5.21"),
        deployment({"attention-backend": "fa4"}, sglang="0.5.22"),
    ),
    (
        "gemma4-backend",
        deployment({"decode-attention-backend": "intel_amx"}, sglang="0.5.17", capability=None),
        deployment({"decode-attention-backend": "intel_amx"}, sglang="0.5.18", capability=None),
    ),
    (
        "gemma4-backend",
        deployment({"attention-backend": "fa3"}),
        deployment({"attention-backend": "fa3"}, target={"architectures": ["LlamaForCausalLM"]}),
    ),
    (
        "kv-canary-frozen-draft",
        deployment(SPECULATIVE | {"kv-canary": "log"}, sglang="0.5.23"),
        deployment(SPECULATIVE | {"kv-canary": "log"}, sglang="0.5.12.post1"),
    ),
    (
        "xqa-strided-query",
        deployment(SPECULATIVE | HOPPER_SPLIT | NAMED | VERIFY_ON_DECODE, sglang="0.5.18"),
        deployment(SPECULATIVE | HOPPER_SPLIT | NAMED | VERIFY_ON_DECODE, sglang="0.5.19"),
    ),
    (
        "xqa-head-dim",
        deployment(SPECULATIVE | HOPPER_SPLIT | VERIFY_ON_DECODE, target=WIDE, sglang="0.5.23"),
        deployment(SPECULATIVE | HOPPER_SPLIT, target=WIDE, sglang="0.5.23"),
    ),
    (
        "xqa-head-dim",
        deployment(SPECULATIVE | {"attention-backend": "trtllm_mha"}, target=WIDE, sglang="0.5.23"),
        deployment({"attention-backend": "trtllm_mha"}, target=WIDE, sglang="0.5.23"),
    ),
    (
        "hybrid-draft-backend",
        deployment(SPECULATIVE | {"prefill-attention-backend": "triton"}, capability=(10, 0), sglang="0.5.14"),
        deployment(
            SPECULATIVE | {"prefill-attention-backend": "triton", "quantization": "modelopt_fp4"},
            capability=(10, 0),
            target=MOE,
        ),
    ),
    (
        "xqa-head-dim",
        deployment({"decode-attention-backend": "trtllm_mha"}, target=WIDE, sglang="0.5.18"),
        deployment({"decode-attention-backend": "trtllm_mha"}, target=WIDE, sglang="0.5.19"),
    ),
    (
        "xqa-head-dim",
        deployment({"decode-attention-backend": "trtllm_mha"}, target=WIDE),
        deployment({"decode-attention-backend": "trtllm_mha"}, target=DENSE),
    ),
]


@pytest.mark.parametrize(("name", "bad", "good"), CASES)
def test_found_where_it_is_and_nowhere_beside_it(name: str, bad: Deployment, good: Deployment) -> None:
    assert name in {row.name for row in judge(bad)}
    assert name not in {row.name for row in judge(good)}


def test_every_hazard_has_a_case() -> None:
    assert set(hazards()) == {name for name, _, _ in CASES}


def test_an_armed_cure_takes_the_fatality_away_and_is_named() -> None:
    rows = judge(deployment(SPECULATIVE | HOPPER_SPLIT), ("hybrid-wrapper-pool-swap",))
    row = next(row for row in rows if row.name == "hybrid-draft-backend")
    assert row.cured_by == "hybrid-wrapper-pool-swap" and not row.fatal
    assert judge(deployment(SPECULATIVE | HOPPER_SPLIT), ("patch-e",))[0].fatal


CURED = "xqa-strided-query"


@pytest.mark.parametrize(
    ("flags", "changes", "ways"),
    [
        (HOPPER_SPLIT, {}, (f"--patches hybrid-wrapper-pool-swap,{CURED}", f"trtllm_mha with --patches {CURED}")),
        (
            HOPPER_SPLIT | {"decode-attention-backend": "intel_xpu"},
            {},
            ("--patches hybrid-wrapper-pool-swap", f"trtllm_mha with --patches {CURED}"),
        ),
        (HOPPER_SPLIT, {"capability": (10, 0)}, ("--patches hybrid-wrapper-pool-swap", "trtllm_mha")),
        (HOPPER_SPLIT, {"sglang": "0.5.16"}, ("--patches hybrid-wrapper-pool-swap", "trtllm_mha")),
    ],
)
def test_a_way_out_is_told_with_the_cure_of_what_it_leads_to(
    flags: dict[str, str], changes: dict[str, Any], ways: tuple[str, str]
) -> None:
    """And following it leaves nothing uncured."""
    rows = {row.name: row for row in judge(deployment(SPECULATIVE | flags, **changes))}
    instead = f"--speculative-draft-attention-backend {ways[1]}"
    assert rows["hybrid-draft-backend"].ways == (ways[0], instead)
    patches = ways[0].removeprefix("--patches ").split(",")
    assert all(row.cured_by for row in judge(deployment(SPECULATIVE | flags, **changes), patches))
    given, _, named = instead.partition(" with --patches ")
    followed = deployment(SPECULATIVE | flags | parse(given.split()), **changes)
    assert all(row.cured_by for row in judge(followed, named.split(",")))


def test_whoever_is_sent_to_trtllm_mha_decode_on_hopper_is_told_of_its_cure() -> None:
    held = [deployment(flags | {"attention-backend": "trtllm_mha"}) for flags in ({}, SPECULATIVE)]
    for row in (row for each in held for row in judge(each) if row.name == "trtllm-mha-prefill-arch"):
        assert row.ways == (f"{row.instead} with --patches {CURED}",)
    rows = judge(deployment(SPECULATIVE | {"speculative-draft-attention-backend": "fa4"}))
    (way,) = next(row.ways for row in rows if row.name == "frozen-draft-fa")
    assert not judge(deployment(SPECULATIVE | parse(way.split())))


EAGER = {"disable-cuda-graph": "", "max-running-requests": "32"}
TRTLLM = {"attention-backend": "trtllm_mha"}
# (flags, releases, GPUs): each finished 24 of 24 requests on an H100 in 0.5.13 or 0.5.23, or is what the text of these
# releases accepts.
VALID = [
    ({"attention-backend": "triton"}, ">=0.5.12", (8, 9, 10, 12)),
    (SPECULATIVE | {"attention-backend": "triton"}, ">=0.5.12", (8, 9, 10, 12)),
    (SPECULATIVE | {"attention-backend": "triton"} | EAGER, ">=0.5.15", (8, 9, 10, 12)),
    (HOPPER_SPLIT | {"disable-cuda-graph": ""}, ">=0.5.12", (9, 10, 12)),
    (SPECULATIVE | HOPPER_SPLIT | NAMED, ">=0.5.13", (9, 10, 12)),
    (SPECULATIVE | HOPPER_SPLIT | NAMED | EAGER, ">=0.5.15", (9, 10, 12)),
    (SPECULATIVE | HOPPER_SPLIT | TRITON_DRAFT, ">=0.5.13", (9, 10, 12)),
    (TRTLLM, ">=0.5.12", (10,)),
    (TRTLLM, ">=0.5.19", (9, 12)),
    (SPECULATIVE | TRTLLM, ">=0.5.13", (10,)),
    (SPECULATIVE | TRTLLM, ">=0.5.21", (9, 12)),
    (SPECULATIVE | TRTLLM | VERIFY_ON_DECODE, ">=0.5.21", (9, 12)),
    (SPECULATIVE | {"attention-backend": "fa4"}, ">=0.5.22", (9, 10)),
    (SPECULATIVE | {"attention-backend": "fa4"} | TRITON_DRAFT, ">=0.5.22", (9, 10)),
]


@pytest.mark.parametrize(("flags", "releases", "majors"), VALID)
def test_no_valid_command_of_any_release_is_refused(
    flags: dict[str, str], releases: str, majors: tuple[int, ...]
) -> None:
    held = [release for release in wheels.RELEASES if release in SpecifierSet(releases)]
    assert held
    for release, major in itertools.product(held, majors):
        for target in (DENSE, MOE):
            rows = judge(deployment(flags, sglang=release, capability=(major, 0), target=target))
            assert not [row.name for row in rows if row.fatal], (release, major)


def test_what_cannot_be_told_is_not_claimed() -> None:
    blind = deployment(SPECULATIVE | HOPPER_SPLIT, target=None, draft=None, capability=None)
    assert not judge(blind)


@pytest.mark.parametrize("found", contributions("g4diag.hazards", "HAZARD"), ids=lambda found: found.name)
def test_contract(found: Any) -> None:
    assert found.error is None and isinstance(found.value, Hazard)
    assert found.value.name == found.name.replace("_", "-")
    assert found.value.severity in ("fatal", "harmful") and SpecifierSet(found.value.releases)
    assert found.value.why.endswith(".") and found.value.reference and (found.value.cures or found.value.instead)
    assert set(found.value.behind) <= set(hazards())


def test_a_model_that_is_not_here_is_taken_for_what_its_name_says() -> None:
    flags = {
        "model-path": "google/gemma-4-E4B-it",
        "attention-backend": "fa4",
        "speculative-algorithm": "NEXTN",
        "speculative-draft-model-path": "google/gemma-4-E4B-it-assistant",
    }
    blind = deployment(flags, target=None, draft=None)
    assert not judge(blind) and "frozen-draft-fa" in {row.name for row in possible(blind)}
    assert not possible(
        deployment(flags | {"model-path": "m", "speculative-draft-model-path": "d"}, target=None, draft=None)
    )
    assert "frozen-draft-fa" not in {row.name for row in possible(deployment(flags))}, "it is found, not possible"


def test_no_release_is_offered_a_patch_that_does_not_fit_it() -> None:
    offered = set()
    for name, hazard in hazards().items():
        for release in matrix().releases:
            here = deployment({}, sglang=release)
            if here.is_in(hazard.releases) and here.is_in(hazard.cured_in):
                offered |= {(name, cure) for cure in hazard.cures}
                assert all(here.is_in(patches()[cure].releases) for cure in hazard.cures), (name, release)
    assert ("frozen-draft-fa", "frozen-draft-fa-swa-state") in offered and len(offered) > 4


@pytest.mark.parametrize(("release", "ways"), [("0.5.18", 1), ("0.5.23", 2)])
def test_a_way_out_is_one_that_the_release_has(release: str, ways: int) -> None:
    asked = deployment({**SPECULATIVE, "attention-backend": "fa4"}, sglang=release)
    (row,) = (row for row in judge(asked, ("frozen-draft-fa-swa-state",)) if row.name == "frozen-draft-fa")
    assert len(row.ways) == ways and row.ways[-1] == "--speculative-draft-attention-backend triton"
    assert bool(row.cured_by) == (ways == 2)
