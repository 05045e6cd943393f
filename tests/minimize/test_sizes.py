"""A point serves the same as the sizes it came from."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sglang")

from g4diag.minimize.sizes import AXES, TOGETHER, is_legal, point_of, sizes_of
from g4diag.stack.drive.serving import Geometry

POINTS = st.builds(
    lambda full, swa, page, rest: rest | {"full_pages": full, "swa_pages": min(full, swa), "page_size": page},
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.sampled_from([16, 32, 64]),
    st.fixed_dictionaries({name: st.integers(1, 300) for name in set(AXES) - {"full_pages", "swa_pages"}}),
)


@given(POINTS)
def test_there_and_back(point: dict[str, int]) -> None:
    geometry = Geometry(**sizes_of(point))  # type: ignore[arg-type]
    assert geometry.swa_tokens == point["swa_pages"] * point["page_size"]
    assert point_of(asdict(geometry)) == point


def test_the_default_is_legal_and_every_size_has_its_axis() -> None:
    point = point_of(asdict(Geometry()))
    assert is_legal(point) and set(point) == {*AXES, "page_size"}
    assert {name for names in TOGETHER for name in names} <= set(point)
    assert Geometry(**sizes_of(point)).swa_tokens == Geometry().swa_tokens  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"window": 1000}, {"prompt": 32}, {"swa_pages": 2000}, {"page_size": 8}])
def test_what_cannot_be_served_is_not(change: dict[str, int]) -> None:
    assert not is_legal(point_of(asdict(Geometry())) | change)
