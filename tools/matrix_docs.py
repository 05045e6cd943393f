"""Write TRIAGE's table of releases from the matrix, between its two marks: `make matrix-docs`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from g4diag.matrix.cells import Matrix, matrix  # noqa: E402
from g4diag.matrix.words import table  # noqa: E402
from tools import between_marks  # noqa: E402

DOCUMENT = ROOT / "TRIAGE.md"
BEGIN, END = "<!-- matrix: written by `make matrix-docs` -->", "<!-- matrix: end -->"


def with_table(text: str, found: Matrix) -> str:
    """`text` with the table between its marks. ValueError where they are not there, once and in order."""
    return between_marks.put(text, BEGIN, table(found), END)


def main() -> int:
    between_marks.write(DOCUMENT, BEGIN, table(matrix()), END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
