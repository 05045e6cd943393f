"""What a user reads says what a thing is: "the seed" is a random seed here, never a bug or a fork."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from g4diag.cli.main import run
from g4diag.discover import contributions

ROOT = Path(__file__).resolve().parents[2]
_COINED = re.compile(r"\bthe[ *]+seed\b|\bseed\*|\bseed's\b|\bseed[- ](?:bug|fork|allocator|page-table)\b", re.I)
# Idioms of our own, in what a user reads: a trap fires or does not, and code is not a person.
_IDIOMS = re.compile(r"\btraps? (?:woke|slept|sleeps?|wakes?)\b|\bthat woke\b|from the grave|claims have no view", re.I)
_FOLDERS = ("docs", "dumps", "benchmarks")
DOCUMENTS = sorted(
    [
        *(path for path in (ROOT / "Makefile", ROOT / "pyproject.toml") if path.is_file()),
        *ROOT.glob("*.md"),
        *(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.md")),
        *(ROOT / "g4diag").rglob("*.toml"),
    ]
)
# Docstrings are case files, and their strings are what reports are made of.
SOURCES = sorted(path for folder in ("g4diag", "repro", *_FOLDERS) for path in (ROOT / folder).rglob("*.py"))


def coined(text: str) -> Iterator[str]:
    """Each place, with the words around it. A line break inside counts as a space."""
    flat = re.sub(r"[\s#]+", " ", text)
    yield from (flat[max(0, found.start() - 30) : found.end() + 30] for found in _COINED.finditer(flat))


def test_files_say_what_a_thing_is() -> None:
    found = {path: list(coined(path.read_text(encoding="utf-8"))) for path in (*DOCUMENTS, *SOURCES)}
    assert not {str(path.relative_to(ROOT)): where for path, where in found.items() if where}


@pytest.mark.parametrize("command", ["", *(row.value.name for row in contributions("g4diag.cli", "COMMAND"))])
def test_help_says_what_a_thing_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage" in shown and not list(coined(shown))


def test_no_idiom_of_our_own_is_read_by_a_user() -> None:
    read = {path: _IDIOMS.findall(path.read_text(encoding="utf-8")) for path in (*DOCUMENTS, *SOURCES)}
    assert not {str(path.relative_to(ROOT)): found for path, found in read.items() if found}
    assert _IDIOMS.findall("a trap slept") and _IDIOMS.findall("15 claims have no view in this file")


def test_it_looks_at_what_is_there() -> None:
    names = {path.name for path in DOCUMENTS}
    assert names >= {"README.md", "TRIAGE.md", "FORMAT.md", "RESULTS.md", "inspect-json.md", "known_issues.toml"}


@pytest.mark.parametrize(
    "text", ["The seed bug.", "none; seed fork", "the\nseed's trap", "figures marked *seed*", "origin: seed-allocator"]
)
def test_it_bites(text: str) -> None:
    assert list(coined(text))


@pytest.mark.parametrize("text", ["a random seed", "the same seed, the same output", "--seed 0", "a seed of its own"])
def test_a_random_seed_stays_one(text: str) -> None:
    assert not list(coined(text))
