"""Reports on a terminal of 80 and of 60 columns: no line is wider, nothing is cut, no word is broken."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from g4diag.analyzers import diff_files, inspect_file
from g4diag.doctor.elsewhere import check_release
from g4diag.model.doctor import PatchRow
from g4diag.report import diff_text, match_text, patches_text, release_check_text, repro_states
from g4diag.report.console import console
from g4diag.report.lines import page

ROOT = Path(__file__).parents[2]
DUMPS, LOGS = ROOT / "dumps", ROOT / "tests" / "logs" / "cases"
ROWS = [
    PatchRow(name, kind, state, why="a draft reads the target's pages by the wrong numbers, and nothing faults")
    for name, kind, state in (
        ("allocator-bound-off-by-one", "fault", "available"),
        ("deferred-free-reads-new-mapping", "cure", "refused"),
    )
]


def _match(console: Console) -> None:
    page(match_text.render(inspect_file(next(LOGS.glob("01*")))), console)


def _diff(console: Console) -> None:
    both = DUMPS / "free-swa-per-token-upstream.pt", DUMPS / "table-width-draft-tokens-upstream.pt"
    page(diff_text.render(diff_files(both)), console)


def _release(console: Console) -> None:
    release_check_text.render(check_release("0.5.13", ("--attention-backend", "trtllm_mha"), "sm90", ""), console)


def _patches(console: Console) -> None:
    patches_text.render(ROWS, console)


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("show", [_match, _diff, _release, _patches])
def test_no_word_is_broken_and_no_line_too_wide(show: Callable[[Console], None], width: int) -> None:
    def shown(columns: int) -> str:
        out = io.StringIO()
        show(Console(file=out, width=columns, force_terminal=True, color_system=None, legacy_windows=False))
        return out.getvalue()

    wide, narrow = shown(1000), shown(width)
    words = narrow.split()
    assert len(words) > 20
    # A column that can be told from the others may go; what is left is whole.
    assert set(words) <= set(wide.split())
    too_wide = [line for line in narrow.splitlines() if len(line.rstrip()) > width]
    assert all(len(max(line.split(), key=len)) > width - 16 for line in too_wide), too_wide


COLUMNS = (("state", False), ("path", False), ("rel.err", True), ("entries", True), ("verdict", False))


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_table_of_states_names_every_state_whole(width: int) -> None:
    out = io.StringIO()
    rows = [
        [*map(Text, (name, "eager", "1.348", "696", "reads past the pool"))] for name in ("upstream", "twin-allocator")
    ]
    console = Console(file=out, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    repro_states.states(COLUMNS, rows, console, ("rel.err", "entries"))
    text = out.getvalue()
    assert "…" not in text and ("rel.err" in text) is (width == 80)
    assert [line.split()[0] for line in text.splitlines() if "reads past the pool" in line] == [
        "upstream",
        rows[1][0].plain,
    ]


@pytest.mark.parametrize(("standing", "put_back"), [("cured", True), ("alive", False)])
def test_what_was_put_back_is_not_said_of_a_cured_release(standing: str, put_back: bool) -> None:
    out = io.StringIO()
    outcome: Any = SimpleNamespace(
        faults=("faulty-rule",), cell=SimpleNamespace(standing=standing), lines=("ERROR: g4diag: x",)
    )
    repro_states.told(outcome, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert ("put back on purpose" in lines[0]) is put_back
    assert lines[-1] == ("  ERROR: g4diag: x" if put_back else "ERROR: g4diag: x")


def test_a_release_that_is_assumed_is_said_to_be_in_the_first_line() -> None:
    out = io.StringIO()
    found = check_release("0.5.23", ("--attention-backend", "trtllm_mha"), "sm90", "ASSUMED, the newest on file")
    release_check_text.render(found, Console(file=out, width=1000))
    assert "sglang 0.5.23 (ASSUMED: the log names none)" in out.getvalue().splitlines()[0]


def test_prose_beside_a_wide_table_goes_below_it() -> None:
    out = io.StringIO()
    _patches(Console(file=out, width=80, force_terminal=True, color_system=None))
    lines = out.getvalue().splitlines()
    assert lines[1].split() == ["allocator-bound-off-by-one", "FAULT", "available"]
    assert lines[2].startswith("  a draft reads the target's pages")


def test_a_pipe_is_as_wide_as_columns_says_and_without_it_lines_stay_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "word " * 40
    for columns, lines in (("60", 4), ("19", 1), ("wide", 1), ("", 1)):
        monkeypatch.setenv("COLUMNS", columns)
        page(said, console())
        out = capsys.readouterr().out.splitlines()
        assert len(out) == lines and (lines == 1 or max(map(len, out)) <= 60), columns
    monkeypatch.setenv("COLUMNS", "60")
    page(said, console(whole=True))
    assert len(capsys.readouterr().out.splitlines()) == 1
