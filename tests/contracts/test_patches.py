"""Every file in patches/ keeps the patch contract; a newcomer is picked up by being there."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from g4diag.discover import Contribution, contributions
from g4diag.hooks.anchors import Anchor, pin
from g4diag.hooks.versions import version_of
from g4diag.patches.contract import Form, Patch, Source, Status, fit, form_for
from tests.contracts import wheels

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
    assert str(SpecifierSet(patch.releases)), "a range for intent, not any release"
    for form in patch.ways:
        assert form.anchors, "what it edits must be pinned to source"
        assert str(SpecifierSet(form.releases))
    if patch.forms:
        assert patch.hooks is tuple and patch.swaps is tuple and patch.verify is None, "its forms say that"


@each_patch
def test_the_case_is_in_the_file(found: Contribution) -> None:
    assert len((importlib.import_module(found.module).__doc__ or "").splitlines()) >= 3


@each_patch
def test_needs_are_patches(found: Contribution) -> None:
    assert set(found.value.needs) <= {other.value.name for other in PATCHES} - {found.value.name}


@each_patch
def test_the_table_of_the_wheels_has_every_anchor(found: Contribution) -> None:
    patch: Patch = found.value
    asked = [anchor for form in patch.ways for anchor in form.anchors]
    asked += [patch.upstream_when] if patch.upstream_when else []
    assert not [anchor for anchor in asked if not wheels.known(anchor)], wheels.AGAIN


def test_the_table_of_the_wheels_has_no_other() -> None:
    patches = [found.value for found in PATCHES]
    asked = {anchor for patch in patches for form in patch.ways for anchor in form.anchors}
    asked |= {patch.upstream_when for patch in patches if patch.upstream_when}
    assert wheels.anchors() == asked, wheels.AGAIN


@each_patch
@pytest.mark.parametrize("release", wheels.RELEASES)
def test_what_a_patch_says_of_a_release_its_wheel_says_too(found: Contribution, release: str) -> None:
    disagreements = list(disagreeing(found.value, release))
    assert not disagreements, "\n".join(disagreements)


def disagreeing(patch: Patch, release: str) -> Iterator[str]:
    """Where the stated releases of a patch and its forms disagree with a wheel's text."""
    wheel = wheels.wheel(release)
    found, form = fit(patch, wheel), form_for(patch, wheel)
    for at, meant in enumerate(patch.ways):
        if release in SpecifierSet(meant.releases) and form != meant:
            yield f"form {at} ({meant.releases}) is meant for {release}: {_why_not(patch, meant, wheel)}"
    wanted = release in SpecifierSet(patch.releases)
    if patch.recorded:
        # Wanted where upstream lacks it, and then its anchors must be missing; upstream ever after.
        if (found.state == "upstream") is not _is_after(patch.releases, release):
            yield f"recorded, wanted in {patch.releases}, and on {release} {_told(found)}"
    elif wanted and found.state != "available":
        yield f"wanted in {patch.releases}, and on {release} {_told(found)}"
    elif not wanted and patch.upstream_when and _is_after(patch.releases, release) and found.state != "upstream":
        yield f"cured after {patch.releases}, and on {release} {_told(found)}"


def _why_not(patch: Patch, meant: Form, wheel: Source) -> str:
    missing = [anchor for anchor in meant.anchors if not wheel.pin(anchor).matched]
    if not missing:
        return "an earlier form matches as well"
    return "; ".join(f"{anchor.text!r} in {anchor.target}: {wheel.pin(anchor).why}" for anchor in missing)


def _told(found: Status) -> str:
    return f"{found.state}: wanted {found.wanted}, found {found.found}"


def _is_after(releases: str, release: str) -> bool:
    ends = [Version(part.version) for part in SpecifierSet(releases) if part.operator in ("<", "<=")]
    return bool(ends) and Version(release) >= max(ends)


GOOD = next(found.value for found in PATCHES if found.name == "hybrid_wrapper_pool_swap")
RECORDED = next(found.value for found in PATCHES if found.name == "fused_router")
CURED = next(found.value for found in PATCHES if found.name == "xqa_strided_query")


@pytest.mark.parametrize(
    ("patch", "release"),
    [
        (replace(GOOD, forms=GOOD.forms[:1]), "0.5.23"),
        (replace(GOOD, forms=(replace(GOOD.forms[0], releases=">=0.5.13"), GOOD.forms[1])), "0.5.14"),
        (replace(GOOD, forms=(*GOOD.forms, replace(GOOD.forms[1], releases=">=0.5.20"))), "0.5.20"),
        (replace(GOOD, releases=">=0.5.12"), "0.5.12.post1"),
        (replace(CURED, releases=">=0.5.12"), "0.5.19"),
        (replace(CURED, releases=">=0.5.12,<0.5.16"), "0.5.16"),
        (replace(RECORDED, releases="<0.5.14"), "0.5.13"),
        (replace(RECORDED, forms=RECORDED.forms[1:]), "0.5.23"),
    ],
    ids=["no form", "gone", "hidden by an earlier", "too early", "too late", "too short", "recorded", "moved"],
)
def test_a_disagreement_bites(patch: Patch, release: str) -> None:
    assert list(disagreeing(patch, release))


def test_an_anchor_that_the_table_lacks_bites() -> None:
    assert not wheels.known(Anchor("sglang.srt.server_args", "no such text"))


@pytest.mark.parametrize("release", [r for r in wheels.RELEASES if r == version_of("sglang")])
def test_the_table_is_what_the_installed_release_says(release: str) -> None:
    held = wheels.wheel(release)
    assert not [a for a in wheels.anchors() if (held.pin(a).count, held.pin(a).there) != (pin(a).count, pin(a).there)]
