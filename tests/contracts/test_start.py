"""What a command imports before it does anything: start-up is what a person waits for most often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from g4diag.dump.writer import write_dump
from tests import samples

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from g4diag.cli.main import run
code = run(sys.argv[1:])
print("imported:", *sorted({"numpy", "torch", "sglang", "triton", "plotly", "rich"} & set(sys.modules)))
sys.exit(code)
"""


def imported(*arguments: str) -> tuple[int, list[str]]:
    """Exit code, and which packages that take their time it has imported, in this process and not in a child."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    ("arguments", "code"), [("--help", 0), ("--version", 0), ("inspect --help", 0), ("nonsense", 2), ("inspect x", 2)]
)
def test_help_and_refusals_import_neither_numpy_nor_torch(arguments: str, code: int) -> None:
    assert imported(*arguments.split()) in [(code, []), (code, ["rich"])]


def test_inspect_leaves_numpy_to_its_child(tmp_path: Path) -> None:
    dump = write_dump(samples.faulty_incident(), tmp_path / "x.pt")
    assert imported("inspect", str(dump), "--json") == (1, [])
