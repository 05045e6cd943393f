"""What the installed release can be asked: skips that name it, and are gone by themselves once it can."""

from __future__ import annotations

from typing import Any

import pytest

from g4diag.hooks.versions import version_of
from g4diag.patches.applying import patches
from g4diag.patches.contract import fit, form_for
from g4diag.stack.drive import cpu


def started_process(**overrides: Any) -> Any:
    """Server arguments of a process in which models and runners can be built."""
    try:
        args = cpu.server_args(model_path="none", **overrides)
        cpu.start_process(args)
    except (AttributeError, ImportError, TypeError) as error:
        pytest.skip(f"sglang {version_of('sglang')}: g4diag.stack.drive does not drive it yet ({error})")
    return args


def need_place(name: str) -> None:
    """Skip where a cure is upstream and what it would hook is gone, or it was never needed."""
    if form_for(patches()[name]) is None:
        found = fit(patches()[name])
        pytest.skip(f"sglang {version_of('sglang')}: {name} is {found.state} and has no place in it")
