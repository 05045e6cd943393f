"""What torch's compiler decorates is returned as it was written, which is how it runs where compiling is off."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")

from g4diag.stack.drive import cpu, uncompiled

PROGRAM = """
import sys
from g4diag.stack.drive import cpu, uncompiled
cpu.prepare_environment()
if sys.argv[1] == "installed":
    uncompiled.install()
import torch
def double(x): return 2 * x
decorated = [
    torch.compile(double), torch.compile(model=double, dynamic=True), torch.compile(dynamic=False)(double),
    torch.compile(double, mode="max-autotune"), torch.compiler.disable(double), torch.compiler.disable(fn=double),
    torch.compiler.disable(recursive=False)(double), torch.compiler.disable()(double),
]
x = torch.arange(4)
assert all(torch.equal(each(x), 2 * x) for each in decorated)
layer = torch.nn.Linear(2, 1)
given = torch.ones(3, 2)
assert torch.equal(torch.compile(layer)(given), layer(given))
print(all(each is double for each in decorated), "torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(("how", "told"), [("installed", "True False"), ("as ever", "False True")])
def test_what_is_decorated_computes_the_same(how: str, told: str) -> None:
    """Without it torch imports its compiler, wraps the function, and calls it as it is."""
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == told, done.stderr


def test_it_stands_for_what_this_environment_does() -> None:
    """Where compiling were on, a decorated function would run compiled, and this would not be the same."""
    assert cpu.ENVIRONMENT["TORCH_COMPILE_DISABLE"] == "1"
    assert "torch.compile" in str(uncompiled.__doc__)
