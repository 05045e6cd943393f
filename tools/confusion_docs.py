"""Write docs/confusion.md: every case that the repository has against every known issue, as `g4diag match` has it.

From the dumps, the logs and what is true of them in tests alone, so it needs no stack. Run it again when an issue or an
analyzer changes.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from g4diag.analyzers import inspect_files  # noqa: E402
from g4diag.analyzers.issues import known_issues  # noqa: E402
from tests.analyzers.test_confusion import DUMPS, TRUTH  # noqa: E402
from tests.logs.test_cases import CASES, ROWS  # noqa: E402
from tests.logs.test_innocent import FOLDER, OUTCOMES  # noqa: E402

DOCUMENT = ROOT / "docs/confusion.md"
_HEAD = """\
# Every case against every known issue

Each row is one file: a dump in `dumps/`, a log as people post them in `tests/logs/cases`, or a log that has none of
our bugs in `tests/logs/innocent`. **matched**: `g4diag match` leaves with 0, derived. **possible**: no fact speaks
against it, a guess, exit 4. Every issue that a row does not name is ruled out there, or nothing in the file points to
it: the table is the whole matrix with its empty cells left out. **is**: what is true of the file: the fault
that a dump was written with, the known issue that names a log's thread; `?` where nobody knows, or where it is none.

This page is written by `tools/confusion_docs.py`; a test holds it to what the analyzers say.
"""


@dataclass(frozen=True)
class Case:
    """kind: "dump", "log" or "innocent". issue: the known issue that it is, "" if none or not known."""

    kind: str
    path: Path
    issue: str


@dataclass(frozen=True)
class Found:
    """By id, in the order in which they are listed. word: the first of the report."""

    case: Case
    word: str
    matched: tuple[str, ...]
    possible: tuple[str, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether it is matched to an issue that it is not, as far as that is known."""
        return bool(self.case.issue or self.case.kind == "innocent") and bool(set(self.matched) - {self.case.issue})


def cases() -> Iterator[Case]:
    """All of them that are evidence."""
    for name, (issue, _) in TRUTH.items():
        yield Case("dump", DUMPS / name, issue)
    for row in ROWS:
        yield Case("log", CASES / row.name, _of_thread(row.name))
    for name, (word, _) in OUTCOMES.items():
        if word:
            yield Case("innocent", FOLDER / name, "")


def _of_thread(name: str) -> str:
    """The known issue whose thread a log's name gives, "" if none has it."""
    named = re.match(r"[\da-z]+-(sglang|flashinfer|vllm)(\d+)-", name)
    thread = f"{named[1]} #{named[2]}" if named else ""
    return next((issue.id for issue in known_issues() if thread in issue.references), "")


def look(case: Case) -> Found:
    """What is said of it now."""
    inspection = inspect_files([case.path])
    issues = [(str(f.data["id"]), f.grade == "derived") for f in inspection.of("known_issues")]
    matched = tuple(name for name, is_sure in issues if is_sure)
    possible = tuple(name for name, is_sure in issues if not is_sure)
    return Found(case, str(inspection.outcome).upper(), matched, possible)


def document(found: Iterable[Found]) -> str:
    """The whole page."""
    rows = list(found)
    lines = ["| file | kind | first word | is | matched | possible |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = (row.case.issue or "?", ", ".join(row.matched) or "-", ", ".join(row.possible) or "-")
        lines.append(f"| {row.case.path.name} | {row.case.kind} | {row.word} | {' | '.join(cells)} |")
    return "\n".join([_HEAD, *_counts(rows), "", *lines, ""])


def _counts(rows: list[Found]) -> Iterator[str]:
    kinds = Counter(row.case.kind for row in rows)
    seen = {row.case.issue for row in rows} - {""}
    unseen = [issue.id for issue in known_issues() if issue.id not in seen]
    right = sum(row.matched == (row.case.issue,) for row in rows if row.case.issue)
    open_ = sum(row.case.issue in row.possible for row in rows if row.case.issue)
    innocent = sum(bool(row.matched or row.possible) for row in rows if row.case.kind == "innocent")
    yield (
        f"- {len(rows)} files: {kinds['dump']} dumps, {kinds['log']} logs, {kinds['innocent']} innocent logs; "
        f"{len(known_issues())} known issues, {len(seen)} of which have a file here."
    )
    yield f"- Matched to the issue that they are: {right}. Possible only: {open_}."
    wrong = sum(row.is_wrong for row in rows)
    yield f"- Matched to an issue that they are not: {wrong}. Innocent logs that name any: {innocent}."
    yield f"- No file here: {', '.join(unseen) or 'none'}."


def main() -> int:
    before = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    after = document(map(look, cases()))
    DOCUMENT.write_text(after, encoding="utf-8")
    print(f"{DOCUMENT.name}: {'as it was' if after == before else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
