"""A campaign as text: the find first, then how it came about; a vacuous run is not a clean one."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from g4diag.model.campaign import Campaign, Failure, MachineRun
from g4diag.report.fuzz_text import render

FAILURE = Failure(
    "slot_has_one_owner",
    "alloc handed out full slot 16",
    ("state.start(page_size=16)", "state.admit(lengths=[1])"),
    found_after=7,
    seconds=1.25,
    shrink_seconds=2.5,
    also=("free_list_is_free",),
    dump=Path("d/fuzz.pt"),
    test=Path("d/test_fuzz.py"),
)


def text_of(*runs: MachineRun, database: str = "") -> list[str]:
    console = Console(width=160, file=StringIO())
    render(Campaign(runs, {"sglang": "0.5.13", "torch": None}, database), console)
    return console.file.getvalue().splitlines()


def test_a_find_is_told_whole() -> None:
    run = MachineRun("m", 3, ("some-fault",), 10, 100, 2.0, 1.5, {"a": 1}, {"slot_has_one_owner": 5}, (), FAILURE, 2)
    assert text_of(run, database="db") == [
        "sglang 0.5.13 torch none, finds kept in db",
        "fault states re-introduced: some-fault; sglang as released has none of them",
        "BROKEN: m: slot_has_one_owner: alloc handed out full slot 16",
        "  the same step also breaks free_list_is_free",
        "  found after 7 steps, 1.2 s; shrunk to 2 steps in 2.5 s",
        "    state.start(page_size=16)",
        "    state.admit(lengths=[1])",
        "  test: d/test_fuzz.py   next: pytest d/test_fuzz.py",
        "  dump: d/fuzz.pt   next: g4diag inspect d/fuzz.pt",
        "  seed 3: 10 examples and 2 that Hypothesis broke off, 100 steps in 2.0 s, 50/s, 75% inside sglang",
        "  reached: a 1",
        "  judged: slot_has_one_owner 5",
    ]


def test_a_find_that_did_not_come_again_says_so() -> None:
    lines = text_of(MachineRun("m", 3, failure=replace(FAILURE, repeats=False)))
    assert "  found after 7 steps, 1.2 s; it did not break again when the same 2 steps were run once more" in lines
    assert not any("shrunk" in line for line in lines)


def test_clean_and_vacuous_say_so_first() -> None:
    lines = text_of(MachineRun("m", 0), MachineRun("n", 0, missing=("a", "judged by t")))
    assert lines[1] == "CLEAN: m: every goal reached, nothing broken"
    assert "VACUOUS: n: never reached a, judged by t" in lines
    assert "  reached: nothing" in lines
