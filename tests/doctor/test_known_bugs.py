"""A known bug that flags meet is silent where its cure is on, and under no other patch that the cure's text names."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from g4diag.doctor.known_bugs import met_here
from g4diag.hazards.command_line import parse
from g4diag.hazards.deployment import ASSISTANTS, GEMMA4, Deployment

TRTLLM = ("--attention-backend", "trtllm_mha")
HYBRID = ("--prefill-attention-backend", "triton", "--decode-attention-backend", "trtllm_mha")


def met(release: str, arguments: Sequence[str], patches: Sequence[str]) -> set[str]:
    flags = parse(["--speculative-algorithm", "FROZEN_KV_MTP", "--speculative-draft-model-path", "draft", *arguments])
    target, draft = {"architectures": [GEMMA4[0]]}, {"architectures": [ASSISTANTS[0]]}
    server = Deployment(sglang=release, flags=flags, target=target, draft=draft, capability=(9, 0))
    return {row.name for row in met_here(server, patches)}


@pytest.mark.parametrize(
    ("arguments", "bug", "beside", "cure"),
    [
        (TRTLLM, "table-width-draft-tokens", "eager-draft-out-cache-loc", ""),
        (HYBRID, "hybrid-wrapper", "xqa-strided-query", "hybrid-wrapper-pool-swap"),
    ],
)
def test_only_the_cure_ends_it(arguments: Sequence[str], bug: str, beside: str, cure: str) -> None:
    assert bug in met("0.5.13", arguments, ())
    assert bug in met("0.5.13", arguments, (beside,)), "it is wanted beside the cure, and is none"
    assert not cure or bug not in met("0.5.13", arguments, (cure,))
