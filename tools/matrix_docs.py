"""Write TRIAGE's table of releases from the matrix, between its two marks: `make matrix-docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from g4diag.matrix.cells import Matrix, matrix
from g4diag.matrix.words import table

DOCUMENT = Path(__file__).resolve().parents[1] / "TRIAGE.md"
BEGIN, END = "<!-- matrix: written by `make matrix-docs` -->", "<!-- matrix: end -->"


def with_table(text: str, found: Matrix) -> str:
    """`text` with the table between its marks. ValueError where they are not there, once and in order."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise ValueError(f"wanted one {BEGIN} and one {END} after it, found another")
    return f"{head}{BEGIN}\n{table(found)}\n{END}{tail}"


def main() -> int:
    before = DOCUMENT.read_text(encoding="utf-8")
    after = with_table(before, matrix())
    DOCUMENT.write_text(after, encoding="utf-8")
    print(f"{DOCUMENT.name}: {'as it was' if after == before else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
