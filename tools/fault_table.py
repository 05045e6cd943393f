"""Write TRIAGE's table of faults, between its two marks: what finds each one, and whether it is named rightly.

From tests/analyzers/injected, tests/injected/graphs.toml and tests/rediscovery/found.toml, so it needs no stack.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from g4diag.dump.reader import read_dump  # noqa: E402
from tests.injected.truth import Truth, truths  # noqa: E402
from tools import between_marks  # noqa: E402
from tools.injected_faults_docs import is_sure, said  # noqa: E402

DOCUMENT = ROOT / "TRIAGE.md"
FOUND = ROOT / "tests/rediscovery/found.toml"
BEGIN, END = "<!-- faults: written by tools/fault_table.py -->", "<!-- faults: end -->"
GRAPHS = ROOT / "tests/injected/graphs.toml"
NOT_DRIVEN, NOT_RUN = "not driven", "not run"
_HEAD = (
    "| fault | release | live, eager | live, in a graph: stand-in on a CPU | live, in replayed graphs: GPU | fuzzing "
    "| offline | named rightly |"
)


@dataclass(frozen=True)
class Row:
    """Cells as they are written. found: whether anything found it."""

    fault: str
    release: str
    eager: str
    graph: str
    gpu: str
    fuzzing: str
    offline: str
    named: str

    @property
    def found(self) -> bool:
        """By at least one of the ways."""
        return any(cell not in (NOT_DRIVEN, NOT_RUN, "no") for cell in (self.eager, self.graph, self.gpu, *self._later))

    @property
    def _later(self) -> tuple[str, str]:
        return self.fuzzing, self.offline

    def line(self) -> str:
        cells = (self.fault, self.release, self.eager, self.graph, self.gpu, self.fuzzing, self.offline, self.named)
        return f"| {' | '.join(cells)} |"


def rows() -> list[Row]:
    """Every injected fault that does harm, and every bug that the machines are held to."""
    known = [row for row in truths() if not row.harmless]
    injected = [row for _, same in groupby(known, key=lambda row: row.fault) for row in _injected(list(same))]
    return [*injected, *_of_graphs({truth.fault for truth in known}), *_fuzzed()]


@cache
def in_graphs() -> dict[tuple[str, str], str]:
    """By fault and release: the traps that named it in a GPU's replayed graphs, and where that was run."""
    found = {}
    for run in tomllib.loads(GRAPHS.read_text(encoding="utf-8"))["run"]:
        for fault, traps in run["faults"].items():
            found[fault, run["release"]] = f"{_named(traps)} ({run['machine']}, {run['date']})"
    return found


def _named(traps: Iterable[str]) -> str:
    return ", ".join(f"`{trap}`" for trap in traps) or "no"


def _of_graphs(others: set[str]) -> Iterator[Row]:
    """Faults that are put into graphs alone. others: those that have a row already."""
    stand_in = tomllib.loads(GRAPHS.read_text(encoding="utf-8"))["stand_in"]
    for (fault, release), gpu in in_graphs().items():
        if fault not in others:
            graph = _named(stand_in[fault])
            yield Row(fault, release, NOT_DRIVEN, graph, gpu, NOT_DRIVEN, NOT_RUN, NOT_RUN)


def _injected(same: list[Truth]) -> Iterator[Row]:
    shared: dict[Row, list[str]] = {}
    for truth in same:
        threads = f" ({', '.join(truth.threads)})" if truth.threads else ""
        replayed = _is_replayed(truth)
        live = ", ".join(f"`{trap}`" for trap in truth.live) or "no"
        row = Row(
            fault=f"{truth.fault}{threads}",
            release="",
            eager=NOT_DRIVEN if replayed else live,
            graph=live if replayed else NOT_DRIVEN,
            gpu=NOT_RUN,
            fuzzing=NOT_DRIVEN,
            offline="yes" if truth.offline else "no",
            named="yes" if _is_named(truth) else "no",
        )
        shared.setdefault(row, []).append(truth.release)
    for row, releases in shared.items():
        # A run on a GPU is of one release, and the rest of the row of all that are alike.
        ran = [
            f"{in_graphs()[same[0].fault, each]} on {each}" for each in releases if (same[0].fault, each) in in_graphs()
        ]
        yield replace(row, release=", ".join(releases), gpu="; ".join(ran) or NOT_RUN)


def _is_replayed(truth: Truth) -> bool:
    """Whether it is in what a graph's replay reads."""
    return any(bad.path == "graph" for path in truth.paths for bad in read_dump(path).violations)


def _is_named(truth: Truth) -> bool:
    """Its verdict leads with a trap that fired, and no issue is matched that it is not."""
    found = said(truth)
    wrong = [issue for issue in found.issues if is_sure(issue) and not issue.startswith(f"{truth.issue} (")]
    return any(trap in found.first for trap in truth.live) and not wrong


def _fuzzed() -> list[Row]:
    found = tomllib.loads(FOUND.read_text(encoding="utf-8"))["found"]
    return [
        Row(
            fault=row["bug"],
            release="where it can be: tests/rediscovery",
            eager=NOT_DRIVEN,
            graph=NOT_DRIVEN,
            gpu=NOT_RUN,
            fuzzing=f"{row['machine']}: `{row['claim']}`",
            offline=NOT_RUN,
            named="yes, by the machine's model" if row["claim"].startswith("model:") else "yes",
        )
        for row in found
    ]


def table(made: Iterable[Row]) -> str:
    """Markdown."""
    return "\n".join([_HEAD, "|---" * 8 + "|", *(row.line() for row in made)])


def with_table(text: str, made: Iterable[Row]) -> str:
    """`text` with the table between its marks. ValueError where they are not there, once and in order."""
    return between_marks.put(text, BEGIN, table(made), END)


def main() -> int:
    between_marks.write(DOCUMENT, BEGIN, table(rows()), END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
