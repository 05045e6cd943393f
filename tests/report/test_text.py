"""One golden text, and strings from a file that do not reach the terminal as commands."""

from __future__ import annotations

import io
import re
from pathlib import Path

from hypothesis import given, settings
from rich.console import Console

from g4diag.analyzers import inspect_incident
from g4diag.matrix.cells import matrix
from g4diag.matrix.words import affected_releases
from g4diag.model import Grade, Incident
from g4diag.report.plain import plain
from g4diag.report.text import render
from tests import samples, strategies

GOLDEN = Path(__file__).with_name("faulty.txt")
HOSTILE = "\x1b]0;owned\x07[bold red]x[/]\x9b2J\u202eevil\r\nline\ud800"


def rendered(incident: Incident, name: str = "x.pt", verbose: bool = True) -> str:
    out = io.StringIO()
    render(inspect_incident(incident, name), Console(file=out, width=160, force_terminal=False), verbose)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def test_golden() -> None:
    # A new trap adds to the claims that have nothing to judge here, and a new cell of the matrix to the releases told;
    # nothing else may change by them.
    found = re.sub(r"\d+ more checks found", "N more checks found", rendered(samples.faulty_incident()))
    where = affected_releases(matrix(), "trtllm-mha-swa")
    assert found.replace(f"affected releases: {where}\n", "affected releases: WHERE\n") == GOLDEN.read_text()


def test_without_v_it_is_the_same_and_less() -> None:
    short, whole = (rendered(samples.faulty_incident(), verbose=verbose).splitlines() for verbose in (False, True))
    assert short[:-1] == whole[: len(short) - 1] and short[-1].startswith("-v shows ") and len(whole) > len(short)


def test_the_first_screen_is_five_answers_and_a_command() -> None:
    first = rendered(samples.faulty_incident()).split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in first] == ["ERROR:", "FAULT", "where", "fault", "sure", "cure", "next"]
    assert "right page, wrong numbering: 188 is its full-pool page id; this layer needed SWA page 100" in first[3]


def test_a_fault_put_back_stands_under_the_first_line() -> None:
    for incident in (samples.faulty_incident(), samples.incident(manifest={"faults": ["faulty-rule"]})):
        lines = rendered(incident).splitlines()
        assert lines[1] == "FAULT STATE RE-INTRODUCED ON PURPOSE: faulty-rule"
        assert sum("RE-INTRODUCED" in line for line in lines) == 1


def test_escapes_and_markup_are_shown_not_obeyed() -> None:
    read = samples.faulty_read(backend=HOSTILE, path=HOSTILE, rids=(HOSTILE,))
    text = rendered(samples.incident(read, origin=HOSTILE, notes=((Grade.GUESS, HOSTILE),)), HOSTILE)
    assert not {"\x1b", "\x9b", "\x07", "\r", "\u202e"} & set(text)
    assert "\\x1b]0;owned" in text and "[bold red]x[/]" in text
    text.encode("utf-8")


@settings(max_examples=30, deadline=None)
@given(strategies.incidents)
def test_any_incident_renders(incident: Incident) -> None:
    assert plain(rendered(incident).replace("\n", "")) == rendered(incident).replace("\n", "")
