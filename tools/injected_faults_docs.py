"""Write docs/injected-faults.md: what found each injected fault, and what `g4diag inspect` says of its dumps.

From tests/analyzers/injected alone, so it needs no stack. Run it again when an analyzer changes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from g4diag.analyzers import inspect_files  # noqa: E402
from g4diag.model import Finding  # noqa: E402
from tests.injected.truth import Truth, truths  # noqa: E402

DOCUMENT = ROOT / "docs/injected-faults.md"
_HEAD = """\
# Injected faults

Each of these was put into sglang's own classes, driven on a CPU with every trap armed. Those with a thread are bugs
that upstream had and has fixed since June 2026. None may be *matched* to another known issue. The drives are in
`tests/injected`, the dumps that g4diag wrote and what is true of them in `tests/analyzers/injected`;
`tests/stack/test_injected_faults.py` puts each in again, on each release that can have it, and its healthy twin
beside it.

This page is written by `tools/injected_faults_docs.py`. The dumps are by `tools/injected_faults.py`, run once with each
release's Python.

**live**: traps that fired in the run, in the order in which they first did. **offline**: traps that fire on the dumps.
**named**: the first line of `g4diag inspect` over all dumps of the fault. **known issues**: what it says they match.
"""


@dataclass(frozen=True)
class Said:
    """By `g4diag inspect` of a fault's dumps. first: its first line. issues: known issues and how well they match."""

    first: str
    issues: tuple[str, ...]


def said(truth: Truth) -> Said:
    """What inspect says now."""
    inspection = inspect_files(truth.paths)
    issues = dict.fromkeys(_issue(finding) for finding in inspection.of("known_issues"))
    return Said(inspection.of("verdict")[0].text, tuple(issues))


def _issue(finding: Finding) -> str:
    """Its id, and "matched" or "possible"; the grade, where the sentence has neither word."""
    how = next((word for word in ("matched", "possible") if f"({word}" in finding.text), finding.grade)
    return f"{finding.data['id']} ({how})"


def is_sure(issue: str) -> bool:
    """Whether one of `Said.issues` is a match."""
    return not issue.endswith(("(possible)", "(guess)"))


def document(rows: Iterable[Truth]) -> str:
    """The whole page. Releases on which all is alike share a row."""
    rows = list(rows)
    told = [(row, said(row)) for row in rows]
    lines = ["| fault | release | live | offline | named | known issues |", "|---|---|---|---|---|---|"]
    for _, same in groupby(told, key=lambda each: each[0].fault):
        lines += _rows(list(same))
    return "\n".join([_HEAD, *_counts(told), "", *lines, "", "## What is broken", "", *_causes(rows), ""])


def _rows(told: list[tuple[Truth, Said]]) -> Iterator[str]:
    shared: dict[tuple[str, ...], list[str]] = {}
    for row, found in told:
        cells = (*_found(row), _cell(found.first), "<br>".join(found.issues) or "none")
        shared.setdefault(cells, []).append(row.release)
    for cells, releases in shared.items():
        yield f"| {told[0][0].fault} | {', '.join(releases)} | {' | '.join(cells)} |"


def _found(row: Truth) -> tuple[str, str]:
    nothing = "nothing: it does no harm" if row.harmless else "**missed**"
    return "<br>".join(row.live) or nothing, "<br>".join(row.offline) or nothing


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _counts(told: list[tuple[Truth, Said]]) -> Iterator[str]:
    for release in sorted({row.release for row, _ in told}):
        here = [(row, found) for row, found in told if row.release == release]
        missed = [row.fault for row, _ in here if row.is_missed]
        wrong = [row.fault for row, found in here if any(map(is_sure, found.issues))]
        yield (
            f"- sglang {release}: {len(here)} faults, {sum(row.harmless for row, _ in here)} of them harmless. No trap "
            f"sees {len(missed)}: {', '.join(missed) or 'none'}. Matched to an issue that they are not: "
            f"{', '.join(wrong) or 'none'}."
        )


def _causes(rows: list[Truth]) -> Iterator[str]:
    for fault, same in groupby(rows, key=lambda row: row.fault):
        row = next(same)
        threads = f" (sglang {', '.join(row.threads)})" if row.threads else ""
        yield f"- **{fault}**: {row.the_cause}{threads}"


def main() -> int:
    before = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    after = document(truths())
    DOCUMENT.write_text(after, encoding="utf-8")
    print(f"{DOCUMENT.name}: {'as it was' if after == before else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
