"""tools/stack_env.py with a tiny package for a stack: never half a stack, never two installs at once, light checkouts.

Real venvs and a real pip, but no index: packages are made here. The package's build waits at a gate where a test asks
for that, so that an install can be met in the middle.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.tools.cache_machine import TOOL, Machine, load


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """With its stack; tests leave it as it is."""
    machine = Machine(tmp_path_factory.mktemp("built"))
    code, _, err = machine.run("stack", "1")
    assert code == 0, err
    return machine


def test_an_interrupted_install_is_never_taken_for_whole(machine: Machine) -> None:
    """The tool is killed, its pip lives on and is waited for; then pip is killed too."""
    first = machine.start("stack", "1", gated=True)
    machine.wait_for_build(first)
    first.kill()
    first.wait()
    second = machine.start("stack", "1")
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    os.killpg(first.pid, signal.SIGKILL)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert "installing sglang 1" in err
    folder = Path(out.strip())
    assert (folder / ".complete").read_text() == "# heavy==1.0\nheavy==1.0\n"
    assert subprocess.run([folder / "bin" / "heavy-prefix"], capture_output=True, text=True).stdout.strip() == str(
        folder
    )


def test_two_at_once_make_one(machine: Machine) -> None:
    first = machine.start("stack", "1", gated=True)
    machine.wait_for_build(first)
    second = machine.start("stack", "1", gated=True)
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    (machine.gate / "open").touch()
    results = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), results
    assert results[0][0] == results[1][0]
    assert results[1][1] == "" and machine.builds() == 1


def test_without_its_stamp_a_stack_is_built_anew_and_dead_ones_go(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G4DIAG_STACKS", str(machine.cache))
    stack_env = load()
    tag, name = stack_env.TAG, stack_env.Layer("sglang", "1", ("heavy==1.0",), 0).folder.name
    half, dead = machine.fake(name, False), machine.fake(f"sglang-0-{tag}-000000000000", False)
    whole, other = machine.fake(f"sglang-2-{tag}-000000000000", True), machine.fake("of-somebody-else", False)
    code, out, err = machine.run("stack", "1")
    assert (code, out.strip()) == (0, str(half)), err
    assert not (half / "file").exists() and (half / ".complete").exists()
    assert not dead.exists() and whole.exists() and other.exists()


def test_another_requirement_is_another_layer() -> None:
    layer = load().Layer
    one = layer("sglang", "1", ("a==1", "b==1"), 12)
    assert one.folder == layer("sglang", "1", ("b==1", "a==1"), 1).folder
    others = [layer("sglang", *key, 12) for key in [("1", ("a==1",)), ("1", ("a==2",)), ("2", ("a==1", "b==1"))]]
    tools = [layer("tools", "1", ("c",), 1, below) for below in [one, *others]]
    assert len({each.folder for each in [one, *others, *tools]}) == 8


def test_a_checkout_sees_the_stack_and_is_set_up_once(built: Machine) -> None:
    def timed() -> tuple[int, str, float]:
        start = time.monotonic()
        code, _, err = built.run("setup", "1", ".venv")
        return code, err, time.monotonic() - start

    code, err, with_tools = timed()
    assert code == 0 and "installing tools 1" in err and "sglang" not in err
    (stack,) = built.cache.glob("sglang-1-*[0-9a-f]")
    shutil.rmtree(built.checkout / ".venv")
    code, err, first = timed()
    assert (code, err) == (0, "g4diag: setting .venv up ...\n")
    venv = built.checkout / ".venv"
    ask = [
        venv / "bin" / "python",
        "-c",
        "import heavy, importlib.metadata as m; print(heavy.__file__, m.version('heavy'))",
    ]
    seen = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
    assert seen[0].startswith(str(stack)) and seen[1] == "1.0", (
        "pip must take the stack's, though a newer one is offered"
    )
    lent = subprocess.run([venv / "bin" / "heavy-prefix"], capture_output=True, text=True, check=True).stdout
    assert lent.strip() == str(venv), "a command of the stack runs in the checkout's environment"

    check = ["sha256sum", "--check", "--status", ".venv/.g4diag-stamp"]
    assert subprocess.run(check, cwd=built.checkout).returncode == 0
    code, err, again = timed()
    assert (code, err) == (0, "")
    built.declare('["heavy>=1"]')
    assert subprocess.run(check, cwd=built.checkout).returncode != 0
    code, err, _ = timed()
    assert code == 0 and "installing tools 1" in err and "sglang" not in err
    assert subprocess.run(check, cwd=built.checkout).returncode == 0
    (stack / ".complete").rename(stack / "gone")
    assert subprocess.run(check, cwd=built.checkout, stderr=subprocess.DEVNULL).returncode != 0
    (stack / "gone").rename(stack / ".complete")
    print(f"tools and checkout: {with_tools:.1f} s; checkout: {first:.1f} s; nothing to do: {again:.2f} s")


def test_clean_frees_all_that_is_not_in_use(machine: Machine) -> None:
    tag = load().TAG
    free, used = (machine.fake(f"sglang-{n}-{tag}-000000000000", True) for n in (1, 2))
    other = machine.fake("of-somebody-else", True)
    lock = os.open(used.with_name(used.name + ".flock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_SH)
    code, out, _ = machine.run("list")
    assert code == 0 and f"{used}  in use" in out and "in all" in out
    code, out, _ = machine.run("clean")
    os.close(lock)
    assert code == 0 and f"{free}  removed" in out and f"{used}  kept: in use" in out
    assert (free.exists(), used.exists(), other.exists()) == (False, True, True)


def test_too_little_disk_is_said_before_the_start(machine: Machine) -> None:
    code, out, err = machine.run("stack", "1", needs="1e9")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert f"wanted 1e+09 GB free in {machine.cache} for sglang 1, found" in err
    assert not list(machine.cache.glob("sglang-*[0-9a-f]"))


def test_a_failing_pip_is_quoted_in_one_line_and_leaves_nothing(built: Machine) -> None:
    built.declare('["absent==1"]')
    code, out, err = built.run("setup", "1", ".venv-absent")
    assert (code, out) == (3, "")
    line = err.splitlines()[-1]
    assert line.startswith("g4diag: pip failed: ERROR: No matching distribution found for absent==1 (log: ")
    log = Path(line.rpartition("(log: ")[2].rstrip(")"))
    assert log.read_text() and not log.with_suffix("").exists() and not (built.checkout / ".venv-absent").exists()


def test_no_python_is_one_line() -> None:
    """As make says it, before anything else runs."""
    make = ["make", "--no-print-directory", "-C", str(TOOL.parents[1]), "setup", "VENV=absent", "PYTHON=absent-python"]
    done = subprocess.run(make, capture_output=True, text=True)
    line, _, end = done.stderr.partition("\n")
    assert line == "g4diag: wanted Python 3.11 or 3.12, found none of: absent/bin/python absent-python"
    assert "Error 3" in end
