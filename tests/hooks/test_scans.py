"""What the other tests leave out when they look for aliases holds none: see tests/scans.py."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

pytest.importorskip("sglang")

from g4diag.hooks.aliases import aliases_of
from g4diag.patches import applying
from g4diag.patches.contract import form_for
from g4diag.stack.live.selection import traps
from g4diag.stack.live.sink import Live
from tests import scans


def test_packages_left_out_bind_nothing_of_sglangs_or_ours() -> None:
    importlib.import_module("sglang.srt.managers.scheduler")
    names = [
        f"{name}.{key}"
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in scans.FOREIGN and isinstance(module, ModuleType)
        for key, bound in list(vars(module).items())
        if isinstance(bound, FunctionType | type)
        and str(bound.__module__).partition(".")[0] in ("sglang", "g4diag", "repro", "tests")
    ]
    assert not names


def test_nothing_in_them_is_hooked(tmp_path: Path) -> None:
    forms = [form for patch in applying.patches().values() if (form := form_for(patch))]
    hooks = [hook for form in forms for hook in form.hooks()] + Live(list(traps().values()), tmp_path).hooks()
    targets = [hook.target for hook in hooks] + [swap.target for form in forms for swap in form.swaps()]
    assert len(targets) > 30 and not [target for target in targets if target.partition(".")[0] in scans.FOREIGN]


def test_the_tests_of_hooks_look_everywhere_and_others_do_not() -> None:
    def alias() -> None: ...

    sys.modules["torch"].g4diag_alias = alias  # type: ignore[attr-defined]
    try:
        assert list(aliases_of(alias)) == [(sys.modules["torch"], "g4diag_alias")]
        scans.look(everywhere=False)
        assert not list(aliases_of(alias))
    finally:
        del sys.modules["torch"].g4diag_alias  # type: ignore[attr-defined]
