"""The first screen: whose fault in words, one line a file for scripts, and nothing cut on a narrow terminal."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import pytest
from rich.console import Console

from g4diag.analyzers import inspect_files
from g4diag.model import Inspection, Outcome
from g4diag.report.first_screen import NEEDS_THE_STACK, first_screen, short_rows
from g4diag.report.html.sections import _LABELS, _command, _cure
from g4diag.report.links import threads_of_cure
from g4diag.report.text import render

ROOT = Path(__file__).parents[2]
DUMPS = sorted(path for path in (ROOT / "dumps").iterdir() if path.suffix in (".pt", ".json", ".log"))
LOGS = sorted((ROOT / "tests" / "logs" / "cases").iterdir())
# File -> what the row of the first screen begins with.
FAULTS = {
    "h100-eager-warn.pt": "right page, wrong numbering: 502 is its full-pool page id; this layer needed SWA page 443",
    "draft-pool-too-small-faulty.pt": "right page, pool too small: 101 belongs there, past the end of the pool",
    "h100-graph-contain.pt": "right page, wrong numbering: 61 is its full-pool page id; this layer needed SWA page 124",
    "h100-postmortem.json": "by the recorder's pool sizes bound 469 is the end of the swa pool",
    "01-sglang26957-frozenkv-trtllm.log": "the kernel at fault is fmhaSm100f",
    "07-sglang20010-leak.log": "an idle audit of the pools found it; the leak itself is earlier",
}


@functools.cache
def inspected(path: Path) -> Inspection:
    return inspect_files([path])


def shown(path: Path, width: int, verbose: bool = False) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    render(inspected(path), console, verbose)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("name", FAULTS)
def test_whose_fault_it_is_in_words(name: str) -> None:
    (path,) = (path for path in (*DUMPS, *LOGS) if path.name == name)
    assert dict(first_screen(inspected(path)).rows)["fault"].startswith(FAULTS[name])


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_the_rows_are_of_the_crash_that_the_verdict_is_of(path: Path) -> None:
    """Or say that they are of another one of several."""
    inspection = inspected(path)
    stories = [finding.data for finding in inspection.of("log_story") if "ranks" in finding.data]
    rows, verdict = dict(first_screen(inspection).rows), next(iter(inspection.of("verdict")))
    named = [number for number, story in enumerate(stories, 1) if str(story["at"]) in verdict.text]
    if len(stories) < 2 or "where" not in rows:
        return
    if "crash " in rows["where"]:
        assert not named and rows["where"].startswith(f"crash 1 of {len(stories)}, ")
        return
    (number,) = [number for number in named if stories[number - 1]["source"] in rows["where"]]
    assert not rows.get("fault", "").startswith("crash ") or rows["fault"].startswith(f"crash {number} of ")


def test_of_several_crashes_the_leaks_rows_are_of_the_audit() -> None:
    (path,) = (path for path in LOGS if path.name.startswith("49-several"))
    rows = dict(first_screen(inspected(path)).rows)
    assert rows["where"].startswith("surfaced at common.py:4691, TP2, 2026-06-01 05:00:00")
    assert rows["fault"].startswith("crash 3 of 3: an audit of the pools found it")


@pytest.mark.parametrize("path", [*DUMPS, *LOGS], ids=lambda path: path.name)
def test_the_first_screen_says_what_to_do_or_that_all_is_well(path: Path) -> None:
    found = first_screen(inspected(path))
    labels = [label for label, _ in found.rows]
    outcome = inspected(path).outcome
    # All five, a gap with its reason; a healthy file has no where and no fault.
    assert labels == ["where", "fault", "sure", "cure", "next"] or outcome is Outcome.HEALTHY, labels
    assert found.line.startswith(f"{outcome.upper()}: g4diag: ") or found.line.startswith("WARNING: ")
    if outcome.is_defect:
        assert {"cure", "next"} & set(labels), "a defect names a cure or a next step"


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("path", [*DUMPS, *LOGS], ids=lambda path: path.name)
def test_nothing_is_cut_on_a_narrow_terminal(path: Path, width: int, verbose: bool) -> None:
    """Every word is whole. A line is only longer than the terminal where one word of it nearly is."""
    wide, narrow = shown(path, 10_000, verbose), shown(path, width, verbose)
    # A strip of a row's entries is squeezed, not cut.
    words, here = ({word for line in lines for word in line.split()} for lines in (wide, narrow))
    assert not {word for word in here - words if set(word) - set(".ow<>?")}
    too_long = [line for line in narrow if len(line.rstrip()) > width]
    assert all(len(max(line.split(), key=len)) > width - 30 for line in too_long), too_long
    assert len(narrow) > len(wide)


def test_the_checks_bite() -> None:
    console = Console(file=io.StringIO(), width=20, force_terminal=True, color_system=None)
    console.print("a wordthatislongerthantwentycolumns")
    assert len(console.file.getvalue().splitlines()) > 1, "rich itself does cut words"  # type: ignore[attr-defined]


def test_one_line_a_file() -> None:
    rows = list(short_rows(inspect_files([ROOT / "dumps"])))
    assert len(rows) >= 20 and all(len(row) == 3 and all(row) for row in rows)
    named = [(word, name.split(", ")[-1], said) for word, name, said in rows]
    assert ("ERROR", "h100-eager-warn.pt", "trtllm-mha-swa") in named
    assert len(list(short_rows(inspected(LOGS[0])))) == 1


def test_issue_numbers_are_links_where_the_terminal_can_and_nowhere_else() -> None:
    out, pipe = io.StringIO(), io.StringIO()
    inspection = inspected(ROOT / "dumps" / "h100-eager-warn.pt")
    render(
        inspection, Console(file=out, width=120, force_terminal=True, color_system="truecolor", legacy_windows=False)
    )
    render(inspection, Console(file=pipe, width=120))
    assert "\x1b]8;" in out.getvalue() and "https://github.com/sgl-project/sglang/issues/26957" in out.getvalue()
    assert "\x1b" not in pipe.getvalue() and "https://" not in pipe.getvalue()


def test_a_command_that_runs_sglang_says_what_it_needs() -> None:
    rows = [dict(first_screen(inspected(path)).rows).get("next", "") for path in (*DUMPS, *LOGS)]
    repro = [row for row in rows if row.startswith("g4diag repro ")]
    assert repro and all(NEEDS_THE_STACK in row for row in repro)
    assert not [row for row in rows if "[stack]" in row and row not in repro]


def test_an_exception_of_pythons_own_is_not_said_to_have_no_cause_here() -> None:
    raised = [p for p in LOGS if any(f.data.get("blame") == "raised" for f in inspected(p).of("misattribution")[:1])]
    screens = [first_screen(inspected(p)) for p in raised if inspected(p).outcome is Outcome.CRASH]
    assert len(screens) >= 4
    for screen in screens:
        said = f"{screen.line} {dict(screen.rows)['sure']}"
        assert "its cause is not in this file" not in said and "raised" in said, said


def test_of_unrelated_files_the_first_screen_says_that_there_are_others() -> None:
    others = inspect_files([path for path in DUMPS if path.name.startswith(("free-swa", "table-width", "bigram"))])
    assert dict(first_screen(others).rows)["also"].startswith("2 of 3 files tell of something else: ")
    alike = inspect_files([path for path in DUMPS if path.name.startswith("h100-eager")] * 2)
    assert "also" not in dict(first_screen(alike).rows)


def test_every_row_has_its_words_in_the_page_too() -> None:
    assert {"where", "fault", "sure", "cure", "next", "also"} <= set(_LABELS)
    said = _command(f"g4diag repro x ({NEEDS_THE_STACK})")
    assert "<code>g4diag repro x</code>" in said and "in a checkout of g4diag</p>" in said


def test_threads_of_a_cure_are_links() -> None:
    cure = "upgrade to sglang 0.5.19 or newer (#36381 and #36646); or `--page-size 1`, see x#12345"
    addresses = [address for *_, address in threads_of_cure(cure)]
    assert addresses == [f"https://github.com/sgl-project/sglang/issues/{n}" for n in (36381, 36646)]
    page = _cure(cure)
    assert page.count("<a href=") == 2 and "<code>--page-size 1</code>" in page and ">#36646</a>" in page
