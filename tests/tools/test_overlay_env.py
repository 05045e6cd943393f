"""tools/overlay_env.py with tiny packages: a release in front of a stack, and what it asks for."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.tools.cache_machine import Machine

WORDS = ("--over", "1.0", "--name", "heavy", "--needs-gb", "0.01")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """heavy 2.0 wants its own transformers, a `small` that wants a `smaller`, and a torch that is not on the index."""
    machine = Machine(tmp_path)
    machine.offer("heavy", "2.0", "transformers==5", "small>=1", "torch==3", "absent==1; python_version < '3'")
    machine.offer("transformers", "5")
    machine.offer("transformers", "6")
    machine.offer("small", "1.5", "smaller")
    machine.offer("smaller", "1")
    return machine


def overlay(machine: Machine, *words: str) -> tuple[int, str, str]:
    process = machine.start_tool("overlay_env.py", *words, *WORDS)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def asked(python: Path, question: str) -> str:
    command = [python, "-c", f"import heavy, importlib.metadata as m; print({question})"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_release_lies_in_front_of_the_stack_with_what_it_asks_for(machine: Machine) -> None:
    code, _, err = overlay(machine, "setup", "2.0", ".venv")
    assert code == 0, err
    (layer,), (stack,) = (machine.cache.glob(f"{kind}-*[0-9a-f]") for kind in ("overlay", "sglang"))
    python = machine.checkout / ".venv" / "bin" / "python"
    seen = asked(python, "heavy.VERSION, m.version('heavy'), m.version('transformers'), m.version('smaller')")
    assert seen == "2.0 2.0 5 1"
    assert asked(stack / "bin" / "python", "m.version('heavy')") == "1.0", "the stack below is as it was"
    notes = [line for line in (layer / ".complete").read_text().splitlines() if "not met" in line]
    assert notes == ["# not met: wanted torch==3, the stack below has none"]
    assert overlay(machine, "setup", "2.0", ".venv") == (0, "", ""), "a second time there is nothing to do"
    check = ["sha256sum", "--check", "--status", ".venv/.g4diag-stamp"]
    assert subprocess.run(check, cwd=machine.checkout).returncode == 0


def test_clean_takes_overlays_too(machine: Machine) -> None:
    code, out, err = overlay(machine, "overlay", "2.0")
    assert code == 0, err
    layer = Path(out.strip())
    assert str(layer) in machine.run("list")[1]
    assert f"{layer}  removed" in machine.run("clean")[1] and not layer.exists()


def test_an_interrupted_overlay_is_built_anew(machine: Machine) -> None:
    assert machine.run("stack", "1.0")[0] == 0
    (machine.links / "small-1.5-py3-none-any.whl").unlink()
    code, _, err = overlay(machine, "overlay", "2.0")
    assert code == 3 and "No matching distribution found for small>=1" in err.splitlines()[-1]
    assert not list(machine.cache.glob("overlay-*[0-9a-f]"))
    first = machine.start_tool("overlay_env.py", "overlay", "2.0", *WORDS)
    assert first.stderr is not None and "installing overlay 2.0" in first.stderr.readline()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    machine.offer("small", "1.5", "smaller")
    code, out, err = overlay(machine, "overlay", "2.0")
    assert code == 0 and "installing overlay 2.0" in err
    assert (Path(out.strip()) / ".complete").exists()


def test_a_release_that_is_not_on_the_index_is_one_line(machine: Machine) -> None:
    code, out, err = overlay(machine, "overlay", "9.0")
    assert (code, out) == (3, "")
    assert "pip failed: ERROR: No matching distribution found for heavy==9.0" in err.splitlines()[-1]
