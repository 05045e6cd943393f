"""A minimisation as a person reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from g4diag.model.reduction import Case, Reduction, Target
from g4diag.report.minimize_text import render

BEFORE = {"requests": 6, "live": 3, "prompt": 1000, "chunk": 256, "window": 128, "page_size": 16, "full_tokens": 16384}
AFTER = {"requests": 3, "live": 1, "prompt": 60, "chunk": 16, "window": 2, "page_size": 16, "full_tokens": 96}
FOUND = Reduction(
    target=Target(
        scenario="trtllm-mha-swa",
        state="faulty",
        healthy="upstream",
        seed=0,
        signature="g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode",
        faults=("faulty-rule",),
        sizes=BEFORE | {"ratio": 0.15, "steps_per_admission": 2, "draft_steps": 3},
        source="the dump",
    ),
    versions={"sglang": "0.5.13", "triton": None},
    after=AFTER | {"ratio": 0.7, "steps_per_admission": 1, "draft_steps": 1},
    broken=Case("g4d1:x", "ERROR: it broke\x1b[2J", ("page_table_stays_in_pool",), 3, checked=4, divergent=3),
    sound=Case("", "", (), None, checked=8, divergent=6),
    tried=41,
    known=0,
    smaller=18,
    seconds=17.2,
    stopped="",
    test=Path("test_g4.py"),
    state_file=None,
)
TEXT = """\
g4diag minimize trtllm-mha-swa, state faulty, seed 0
sglang 0.5.13 triton none
fault states re-introduced: faulty-rule; sglang as released has none of them
signature g4d1:page_table_stays_in_pool:swa-page:swa:trtllm_mha:draft_decode

size                        before (the dump's)  after
──────────────────────────────────────────────────────
requests                                      6      3
requests decoding together                    3      1
prompt, tokens                             1000     60
chunked prefill, tokens                     256     16
sliding window, tokens                      128      2
page, tokens                                 16     16
full pool, tokens                         16384     96
SWA tokens a full token                    0.15    0.7
steps between two requests                    2      1
draft steps                                   3      1

41 candidates run; 18 steps down in 17.2 s
faulty: ERROR: it broke\\x1b[2J
upstream: silent; 8 page-table entries checked, 6 differ by space
test: test_g4.py   next: pytest test_g4.py
"""


def text(found: Reduction) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        render(found, console)
    return "".join(f"{line.strip()}\n" for line in captured.get().splitlines())


def test_the_whole_text() -> None:
    assert text(FOUND) == TEXT


def test_a_search_cut_short_says_so_and_how_to_go_on() -> None:
    found = replace(FOUND, stopped="out of time", state_file=Path(".state"), known=7)
    assert "out of time: a smaller case may be there; --resume goes on (.state)" in text(found)
    assert "41 candidates run, 7 known from an earlier run; 18 steps down" in text(found)
