"""Record injected faults (tests/injected) on the installed release: dumps and their truth, in tests/analyzers/injected.

Run it by the Python of each release's environment: `.venv/bin/python tools/injected_faults.py [FAULT ...]`.
"""

from __future__ import annotations

import logging
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from g4diag import guard
from g4diag.stack.drive import cpu


def main(names: list[str]) -> int:
    """All faults, or those named. A fault that is not named keeps its dumps and its truth."""
    cpu.prepare_environment()
    guard.set_raising(True)
    logging.getLogger("g4diag").setLevel(logging.CRITICAL)  # what fires is in the truth
    from tests.injected.catalogue import FAULTS
    from tests.injected.record import recorded
    from tests.injected.truth import truths, write

    if unknown := set(names) - set(FAULTS):
        print(f"injected_faults.py: unknown fault: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    for name in names or list(FAULTS):
        if lacks := FAULTS[name].lacks():
            print(f"{name}: not in this release: {lacks}", flush=True)
    for row in recorded([name for name in names or FAULTS if not FAULTS[name].lacks()]):
        print(
            f"{row.fault} on {row.release}: {', '.join(row.live) or 'nothing fired'} ({row.judged} views)", flush=True
        )
        # Read again each time: another release may be recorded beside this one.
        known = {(each.fault, each.release): each for each in truths()} | {(row.fault, row.release): row}
        releases = sorted({release for _, release in known})
        write(known[key] for key in product(FAULTS, releases) if key in known)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
