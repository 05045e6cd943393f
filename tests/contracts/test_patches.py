"""Every file in patches/ keeps the patch contract; a newcomer is picked up by being there."""

from __future__ import annotations

import importlib

import pytest
from packaging.specifiers import SpecifierSet

from g4diag.discover import Contribution, contributions
from g4diag.patches.contract import Patch

PATCHES = contributions("g4diag.patches", "PATCH")
each_patch = pytest.mark.parametrize("found", PATCHES, ids=lambda found: found.name)


def test_patches_are_found() -> None:
    assert {found.name for found in PATCHES} >= {"clamp", "faulty_rule", "patch_e"}


@each_patch
def test_name_is_the_modules_with_dashes(found: Contribution) -> None:
    assert found.error is None
    assert isinstance(found.value, Patch)
    assert found.value.name.replace("-", "_") == found.name
    assert "_" not in found.value.name


@each_patch
def test_fields_are_filled(found: Contribution) -> None:
    patch = found.value
    assert patch.kind in ("cure", "fault")
    for sentence in (patch.why, patch.how, patch.remove_when):
        assert sentence.strip() and sentence.endswith("."), sentence
    assert patch.upstream.strip()
    assert patch.anchors, "what it edits must be pinned to source"
    assert str(SpecifierSet(patch.releases)), "a range for intent, not any release"


@each_patch
def test_the_case_is_in_the_file(found: Contribution) -> None:
    assert len((importlib.import_module(found.module).__doc__ or "").splitlines()) >= 3


@each_patch
def test_needs_are_patches(found: Contribution) -> None:
    assert set(found.value.needs) <= {other.value.name for other in PATCHES} - {found.value.name}
