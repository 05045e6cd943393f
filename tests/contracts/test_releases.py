"""Every release on the index is known by exactly one release file, and what that file says is in the wheel.

Wheels are not committed: tests/data/places.json is what tools/pin_places.py read in them.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from g4diag.hooks.anchors import Anchor
from g4diag.stack import releases
from g4diag.stack.releases.contract import Release
from tests.contracts import wheels

TABLE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "places.json").read_text(encoding="utf-8"))
RELEASES: tuple[str, ...] = tuple(TABLE["releases"])
COUNTS = {
    Anchor(row["target"], row["text"]): dict(zip(RELEASES, row["counts"], strict=True)) for row in TABLE["known_by"]
}
PLACES = {row["path"]: dict(zip(RELEASES, row["parameters"], strict=True)) for row in TABLE["places"]}
EVERY = releases.known()
AGAIN = "run tools/pin_places.py over the wheels, which says how"
each_release = pytest.mark.parametrize("release", EVERY.values(), ids=lambda release: release.name)


def fitting(wheel: str) -> list[Release]:
    return [each for each in EVERY.values() if all(COUNTS[anchor][wheel] == 1 for anchor in each.known_by)]


def test_the_table_is_of_the_release_files_and_of_all_wheels() -> None:
    assert set(COUNTS) == {anchor for release in EVERY.values() for anchor in release.known_by}, AGAIN
    assert set(PLACES) == {point.path for release in EVERY.values() for point in release.points.values()}, AGAIN
    assert RELEASES == wheels.RELEASES


@pytest.mark.parametrize("wheel", RELEASES)
def test_exactly_one_release_file_fits_a_wheel(wheel: str) -> None:
    """By all of its anchors; and it is the one that was written for that version."""
    found = [each.name for each in fitting(wheel)]
    meant = [each.name for each in EVERY.values() if each.means(wheel)]
    assert found == meant
    assert len(found) == 1


@each_release
def test_a_release_file_means_a_wheel(release: Release) -> None:
    """None is dead: every one is there for a release on the index."""
    assert [wheel for wheel in RELEASES if release.means(wheel)]


@each_release
def test_every_place_is_in_the_wheels_with_what_hooks_unpack(release: Release) -> None:
    meant = [wheel for wheel in RELEASES if release.means(wheel)]
    wanted = [(wheel, name, point) for wheel in meant for name, point in release.points.items()]
    assert wanted
    for wheel, name, point in wanted:
        there = PLACES[point.path][wheel]
        assert there is not None, f"{wheel}: {name}: no {point.path}"
        named = [parameter for parameter in there if not parameter.startswith("*")]
        takes_rest = len(named) < len(there)
        assert takes_rest or named[: len(point.parameters)] == list(point.parameters), (
            f"{wheel}: {name}: wanted {', '.join(point.parameters)}, found {', '.join(there)}"
        )


@each_release
def test_what_a_release_lacks_is_no_place_of_it_and_is_one_of_another(release: Release) -> None:
    assert not set(release.lacks) & set(release.points)
    assert set(release.lacks) <= {name for other in EVERY.values() for name in other.points}


@each_release
def test_every_driver_has_all_functions_with_the_same_arguments(release: Release) -> None:
    """What a module leaves to its neighbour is found there; a misspelt name would be nobody's."""
    first, driven = importlib.import_module(EVERY["0.5.13"].drive), importlib.import_module(release.drive)
    functions = own_functions(first)
    assert len(functions) > 20
    for name, function in functions.items():
        assert arguments(getattr(driven, name)) == arguments(function), name
    assert set(own_functions(driven)) <= set(functions)


def arguments(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def own_functions(module: ModuleType) -> dict[str, Any]:
    named = {name: value for name, value in vars(module).items() if inspect.isfunction(value) and name[0] != "_"}
    return {name: value for name, value in named.items() if value.__module__.startswith(module.__name__)}
