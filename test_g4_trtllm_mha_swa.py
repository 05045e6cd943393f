"""The smallest case of trtllm-mha-swa/faulty that g4diag minimize found.

sglang's own classes on the CPU with faulty-rule put back. Prompts, chunks, windows, pools and pages in tokens.
"""

from g4diag.minimize import run_case

SIGNATURE = "g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode"
SIZES = {
    "requests": 3,
    "live": 2,
    "prompt": 62,
    "chunk": 16,
    "window": 8,
    "page_size": 16,
    "full_tokens": 1024,
    "ratio": 0.15,
    "steps_per_admission": 1,
    "draft_steps": 3,
}


def test_the_trap_names_it() -> None:
    found = run_case("trtllm-mha-swa", "faulty", SIZES, seed=0, until=SIGNATURE)
    assert found.signature == SIGNATURE


def test_all_is_silent_without_it() -> None:
    found = run_case("trtllm-mha-swa", "upstream", SIZES, seed=0)
    assert (found.traps, found.error) == ((), "")
    assert found.checked > 0
    assert found.divergent > 0
