"""README's two doors show what the commands say, and its links lead somewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from g4diag.analyzers import inspect_files
from g4diag.discover import contributions
from g4diag.report.text import render

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CASE = ROOT / "tests" / "logs" / "cases" / "01-sglang26957-frozenkv-trtllm.log"
WIDTH = 100


def first_screen() -> str:
    out = io.StringIO()
    render(inspect_files([CASE]), Console(file=out, width=WIDTH, force_terminal=True, color_system=None))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n\n")[0].splitlines())


def test_the_first_door_shows_what_inspect_says_of_that_log() -> None:
    assert f"```\n{first_screen()}\n```" in README


def test_it_is_one_screen_and_a_table() -> None:
    assert len(README.splitlines()) <= 90


def test_every_command_is_in_its_table() -> None:
    table = README.partition("## Commands")[2].partition("Exit codes")[0]
    for row in contributions("g4diag.cli", "COMMAND"):
        assert f"`{row.value.name}`" in table


def test_every_link_leads_to_a_file() -> None:
    documents = [ROOT / "README.md", ROOT / "TRIAGE.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("C*.md")]
    found = 0
    for document in documents:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", document.read_text(encoding="utf-8")):
            found += 1
            assert (document.parent / target).exists(), f"{document.name}: {target}"
    assert found > 20
