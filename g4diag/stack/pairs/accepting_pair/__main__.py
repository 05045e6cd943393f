"""`python -m g4diag.stack.pairs.accepting_pair FOLDER`: write the pair for a server, and say where."""

from __future__ import annotations

import sys
from pathlib import Path

from g4diag.stack.pairs.accepting_pair.files import write_pair


def main(arguments: list[str]) -> int:
    """0 written, 2 usage."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m g4diag.stack.pairs.accepting_pair FOLDER", file=sys.stderr)
        return 2
    for folder in write_pair(Path(arguments[0])):
        size = (folder / "model.safetensors").stat().st_size
        print(f"{folder}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
