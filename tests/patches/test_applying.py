"""Several patches go on all or nothing and come off in reverse; status is a value."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("sglang")

from g4diag.discover import Contribution
from g4diag.errors import PatchRefused, UsageError
from g4diag.hooks.anchors import Anchor
from g4diag.hooks.install import Hook
from g4diag.hooks.manifest import armed_manifest
from g4diag.patches import applying
from g4diag.patches.contract import fit
from g4diag.settings import Selection
from g4diag.stack.live import selection
from tests.synthetic import BASE, differences, raw_snapshot, tree

FAULT = applying.patches()["faulty-rule"]
NOWHERE = Anchor("sglang.srt.server_args", "no such text anywhere")


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch):
    """Three synthetic patches on the synthetic tree: one, two (needs one), broken."""
    log: list[str] = []

    def patch(name: str, target: str, **more):
        def around(original, *args):
            log.append(name)
            return original(*args)

        return (
            replace(
                FAULT, name=name, kind="cure", anchors=(), verify=None, hooks=lambda: [Hook(target, "around", around)]
            )
            if not more
            else replace(patch(name, target), **more)
        )

    def unverified() -> None:
        raise PatchRefused("broken", "an effect", "none")

    rows = [
        patch("one", f"{BASE}.plain"),
        patch("two", f"{BASE}.plain", needs=("one",)),
        patch("broken", f"{BASE}.Base.method", verify=unverified),
        patch("fault", f"{BASE}.plain", kind="fault"),
        patch("faulty-need", f"{BASE}.plain", needs=("fault",)),
        patch("demonstration", f"{BASE}.plain", partial=True),
    ]
    found = [Contribution(row.name, row.name, value=row) for row in rows]
    monkeypatch.setattr(applying, "contributions", lambda package, constant: found)
    with tree() as (base, user):
        before = raw_snapshot(base, user)
        yield base, log
        assert not differences(before, raw_snapshot(base, user))
        assert armed_manifest() == {"patches": [], "faults": [], "traps": []}


def test_needs_come_first_and_are_brought_along(series) -> None:
    base, log = series
    with applying.applied(["two"]) as manifest:
        assert manifest["patches"] == ["one", "two"] and not applying.problems()
        base.plain()
    assert log == ["two", "one"], "the one applied first is innermost"


def test_a_patch_without_effect_takes_the_others_off_again(series) -> None:
    with pytest.raises(PatchRefused, match="broken: wanted an effect, found none"), applying.applied(["two", "broken"]):
        raise AssertionError("entered")


def test_a_needed_fault_must_be_named(series) -> None:
    with pytest.raises(UsageError, match="needs the fault fault"), applying.applied(["faulty-need"]):
        raise AssertionError("entered")
    with applying.applied(["faulty-need", "fault"]) as manifest:
        assert manifest["faults"] == ["fault"]


def test_all_means_available_cures_without_demonstrations(series) -> None:
    assert applying.selected_patches(Selection(everything=True)) == ("one", "two", "broken", "faulty-need")


@pytest.mark.parametrize("select", [applying.selected_patches, selection.selected_traps])
def test_an_unknown_name_holds_both_sides(select) -> None:
    with pytest.raises(UsageError, match=r"wanted one of .*, found 'x'"):
        select(Selection(names=("x",)))


def test_a_group_stands_for_its_traps_and_overlaps_fold() -> None:
    tables = [name for name, trap in selection.traps().items() if trap.group == "page-table"]
    assert len(tables) >= 4
    assert selection.selected_traps(Selection(names=("page-table", tables[0]))) == tuple(tables)
    swa = selection.selected_traps(Selection(names=("swa-state", "slot_inside_allocator")))
    assert swa == ("swa_state_follows_pool", "slot_inside_allocator")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "available"),
        ({"releases": ">=0.6"}, "not-applicable"),
        ({"anchors": (NOWHERE,)}, "refused"),
        ({"upstream_when": FAULT.anchors[0]}, "upstream"),
        ({"upstream_when": NOWHERE}, "available"),
    ],
)
def test_status_is_a_value_with_both_sides(changes: dict, state: str) -> None:
    found = fit(replace(FAULT, **changes))
    assert found.state == state and found.wanted and found.found


def test_what_upstream_has_is_not_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    cured = replace(FAULT, name="cured", upstream_when=FAULT.anchors[0])
    monkeypatch.setattr(applying, "patches", lambda: {patch.name: patch for patch in (cured, FAULT)})
    assert applying.lacking(["cured", FAULT.name]) == (FAULT.name,)
    with pytest.raises(UsageError, match="unknown patch"):
        applying.lacking(["none"])


@pytest.mark.parametrize("changes", [{"anchors": (NOWHERE,)}, {"releases": ">=0.6"}])
def test_what_does_not_fit_is_not_applied_even_by_name(changes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    misfit = replace(FAULT, **changes)
    monkeypatch.setattr(applying, "patches", lambda: {misfit.name: misfit})
    with pytest.raises(PatchRefused, match=r"wanted .* found"), applying.applied([misfit.name]):
        raise AssertionError("entered")
