"""`patches verify` gives a row for whatever a patch does: its failure is told, and none of them ends the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

pytest.importorskip("sglang")

from g4diag.discover import Contribution
from g4diag.doctor import series
from g4diag.errors import PatchRefused
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.patches import applying
from g4diag.patches.contract import Form, Patch
from tests.synthetic import BASE, tree


def patch(name: str, hooks: Callable[[], Sequence[Hook]], **more: Any) -> Patch:
    given: dict[str, Any] = {"kind": "cure", "why": "w.", "how": "h.", "upstream": "u", "releases": ">=0.1"}
    return Patch(name=name, hooks=hooks, remove_when="r.", **given | more)


def watched() -> list[Hook]:
    return [Hook(f"{BASE}.plain", "after", lambda *_: None)]


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[Patch], tuple[str, ...]]:
    def verified(subject: Patch) -> tuple[str, ...]:
        found = [Contribution(subject.name, subject.name, value=subject)]
        monkeypatch.setattr(applying, "contributions", lambda package, constant: found)
        monkeypatch.setattr(series, "contributions", lambda package, constant: found)
        with tree():
            return tuple(row.error for row in series.verify())

    return verified


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (patch("good", watched), ""),
        (patch("gone", lambda: [Hook("g4_nowhere.f", "after", watched)]), "No module named 'g4_nowhere'"),
        (patch("hooks", failing(ImportError("libcuda.so.1"))), "found ImportError: libcuda.so.1"),
        (patch("verify", watched, verify=failing(PatchRefused("x", "y", "z"))), "x: wanted y, found z"),
        (patch("theirs", watched, verify=failing(AttributeError("no field"))), "found AttributeError: no field"),
        (patch("late", watched, verify=failing(ImportError("libcuda.so.1"))), "found ImportError: libcuda.so.1"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_failure_is_a_row_alone_and_together(
    rows: Callable[[Patch], tuple[str, ...]], subject: Patch, told: str
) -> None:
    alone, together = rows(subject)
    assert (told in alone and told in together) if told else not alone + together
    assert "\n" not in alone + together


def test_a_cure_that_sglang_has_and_that_has_no_place_left_is_passed_over(
    rows: Callable[[Patch], tuple[str, ...]],
) -> None:
    there = Anchor("sglang.srt.plugins.hook_registry", "class HookRegistry")
    gone = Form(">=0.1", (Anchor("sglang.srt.plugins.hook_registry", "no such text"),), watched)
    assert rows(patch("old", tuple, upstream_when=there, forms=(gone,))) == ()
    assert rows(patch("still", watched, upstream_when=there)) == ("",)
