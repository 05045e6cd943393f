"""Each process of a server says how its arming went; what is torn or foreign is left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from g4diag.stack.live import records


def test_the_last_word_of_a_process_counts(tmp_path: Path) -> None:
    records.write(tmp_path / "new", "inert", "", {})
    records.write(tmp_path / "new", "failed", "why", {"traps": ["x"]})
    (record,) = records.read(tmp_path / "new")
    assert (record.pid, record.process, record.state, record.error) == (os.getpid(), "MainProcess", "failed", "why")


def test_torn_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    for name, text in (("1.arming.json", '{"pid": 1'), ("2.arming.json", "{}"), ("3.arming.json", "[]"), ("x", "")):
        (tmp_path / name).write_text(text)
    assert records.read(tmp_path) == () and records.read(tmp_path / "missing") == ()


@pytest.mark.parametrize(
    ("variables", "state"),
    [({}, "inert"), ({"G4DIAG_PATCHES": "nonsense"}, "failed"), ({"G4DIAG_NONSENSE": "1"}, "failed")],
)
def test_the_plugin_leaves_one(variables: dict[str, str], state: str, tmp_path: Path) -> None:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("G4DIAG_")}
    environ |= {"G4DIAG_RUN_DIR": str(tmp_path)} | variables
    code = "import g4diag.plugin as p; p.register()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=120, check=False)
    (record,) = records.read(tmp_path)
    assert done.returncode == 0 and record.state == state and ("onsense" in record.error.lower()) == (state == "failed")
