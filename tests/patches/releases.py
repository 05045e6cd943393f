"""What the installed release can be asked: skips that name it, and are gone by themselves once it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import has_module
from g4diag.hooks.versions import version_of
from g4diag.patches.applying import patches
from g4diag.patches.contract import fit, form_for
from g4diag.stack.drive import cpu

_MISFITS = (AttributeError, ImportError, PatchRefused, TypeError)


@contextmanager
def what_is_driven_yet() -> Iterator[None]:
    """Skip where the stack's room does not drive or watch the installed release yet. On the line of 0.5.13, which it
    was written on, and wherever nothing is raised, nothing is skipped."""
    try:
        yield
    except _MISFITS as error:
        if has_module("sglang.srt.speculative.frozen_kv_mtp_worker"):
            raise
        pytest.skip(f"sglang {version_of('sglang')}: g4diag.stack does not drive it yet ({error})")


def started_process(**overrides: Any) -> Any:
    """Server arguments of a process in which models and runners can be built."""
    with what_is_driven_yet():
        args = cpu.server_args(model_path="none", **overrides)
        cpu.start_process(args)
        return args


def need_available(name: str) -> None:
    """Skip where the release is not one that this patch is for."""
    found = fit(patches()[name])
    if found.state != "available":
        pytest.skip(f"sglang {version_of('sglang')}: {name} is {found.state}, wanted {found.wanted}")


def need_place(name: str) -> None:
    """Skip where a cure is upstream and what it would hook is gone, or it was never needed."""
    if form_for(patches()[name]) is None:
        found = fit(patches()[name])
        pytest.skip(f"sglang {version_of('sglang')}: {name} is {found.state} and has no place in it")
