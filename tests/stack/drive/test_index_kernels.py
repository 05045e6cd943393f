"""The way by torch is a matter of speed: a release that keeps its kernels elsewhere is driven by the interpreter."""

from __future__ import annotations

import pytest

from g4diag.stack.drive import index_kernels
from g4diag.stack.drive.allocation_kernels import has_allocation_kernels, is_switchable
from g4diag.stack.drive.driver import driver
from g4diag.stack.drive.table_kernels import are_where_they_were


def test_they_are_where_this_releases_drive_says() -> None:
    assert has_allocation_kernels() and are_where_they_were()


@pytest.mark.parametrize("what", ["allocation", "tables"])
def test_kernels_that_lie_elsewhere_are_left_alone(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    was = is_switchable()
    if what == "allocation":
        monkeypatch.setattr(index_kernels, "has_allocation_kernels", lambda: False)
    else:
        monkeypatch.setattr(driver().FIXTURES, "TABLE_KERNELS", {"eager": "sglang.nowhere.kernels.eager"})
    with index_kernels.in_torch():
        assert is_switchable() is was
