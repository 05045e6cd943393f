"""What every test stands on: the CPU seams set before any import, hypothesis profiles, our own errors re-raised."""

from __future__ import annotations

import functools
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from g4diag import guard
from g4diag.hooks import anchors
from g4diag.stack.drive import sgl_kernel_stand_in
from tests import fast_kernels as kernels
from tests import scans, stackless

# Before the first import of triton or sglang, whichever test brings it in.
os.environ.update(
    TRITON_INTERPRET="1",
    TORCH_COMPILE_DISABLE="1",
    SGLANG_FLASHINFER_WORKSPACE_SIZE="1048576",
    SGLANG_USE_CPU_ENGINE="1",
)
os.environ.pop("COLUMNS", None)  # else what is captured is written as wide as this shell
sgl_kernel_stand_in.install()
# Before the first import of torch: tensors are tiny, and two workers have two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A developer's shell must not arm the tests.
for _name in [name for name in os.environ if name.startswith("G4DIAG_")]:
    del os.environ[_name]

# Every `applied` and every listing parses sglang's files anew, a second's work; none of them changes here.
anchors._segment = functools.cache(anchors._segment)

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


# The files that take longest, longest first: workers that begin with them end together.
LONGEST = (
    "rediscovery/test_rediscovery.py",
    "fuzz/test_ci_profile.py",
    "scenario/test_driven.py",
    "repro/test_trtllm_mha_swa.py",
    "stack/probes/test_probes_allocation.py",
    "stack/test_injected_faults.py",
    "stack/live/test_device_check.py",
    "cli/test_repro.py",
    "cli/test_serve.py",
    "patches/test_hopper_extend_tile.py",
    "test_plugin.py",
    "stack/test_finds.py",
    "repro/test_frozen_draft_scenarios.py",
    "stack/pairs/test_accepting_pair.py",
    "hostile/test_hostile.py",
    "tools/test_overlay_env.py",
    "tools/test_stack_env.py",
    "fuzz/test_caches.py",
    "cli/test_serve_signals.py",
    "machines/test_hooks_machine.py",
    "benchmarks/test_serve_growth.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    stackless.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    if config.option.stackless:
        stackless.hide_the_stack()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return stackless.is_left_out(collection_path, config) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    name = item.nodeid.partition("::")[0].removeprefix("tests/")
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_collection_finish() -> None:
    # What is there by now stays: a full collection, which some drives ask for, need not look at it again.
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    scans.look(everywhere=item.nodeid.startswith(("tests/hooks/", "tests/test_plugin")))


@pytest.fixture(autouse=True)
def our_errors_are_raised() -> Iterator[None]:
    """`guard` swallows in production; a test that wants that calls `guard.set_raising(False)` itself."""
    before = guard.set_raising(True)
    yield
    guard.set_raising(before)


@pytest.fixture(autouse=True, scope="module")
def fast_kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """See tests/fast_kernels.py."""
    if not kernels.here(request.node.nodeid):
        yield
        return
    with kernels.fast():
        yield


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sandbox is asked is answered in this process, without its limits, by the code and in the JSON that the
    child would answer with. For tests of what evidence says; tests/sandbox and tests/hostile start the child."""
    from g4diag import sandbox
    from g4diag.dump import core_dump
    from g4diag.sandbox import child

    def answered(request: dict[str, Any], show_errors: bool) -> bytes:
        return child._answer(json.loads(json.dumps(request)))

    monkeypatch.setattr(core_dump, "_told", None)
    monkeypatch.setattr(child, "limit", lambda memory_bytes, seconds: None)
    monkeypatch.setattr(child, "confine", lambda: ())  # for good: not even a later test could write
    monkeypatch.setattr(child.allowance, "tell", lambda each, all_of_them: None)
    monkeypatch.setattr(sandbox, "_ask", answered)
