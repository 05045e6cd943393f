"""What every test stands on: the CPU seams set before any import, hypothesis profiles, our own errors re-raised."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from g4diag import guard
from g4diag.stack.drive import sgl_kernel_stand_in

# Before the first import of triton or sglang, whichever test brings it in.
os.environ.update(
    TRITON_INTERPRET="1",
    TORCH_COMPILE_DISABLE="1",
    SGLANG_FLASHINFER_WORKSPACE_SIZE="1048576",
    SGLANG_USE_CPU_ENGINE="1",
)
sgl_kernel_stand_in.install()
# A developer's shell must not arm the tests.
for _name in [name for name in os.environ if name.startswith("G4DIAG_")]:
    del os.environ[_name]

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(autouse=True)
def our_errors_are_raised() -> Iterator[None]:
    """`guard` swallows in production; a test that wants that calls `guard.set_raising(False)` itself."""
    before = guard.set_raising(True)
    yield
    guard.set_raising(before)
